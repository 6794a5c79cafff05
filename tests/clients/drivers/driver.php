<?php
// SPDX-License-Identifier: MIT
declare(strict_types=1);

require __DIR__ . '/../../../clients/php/SmtpMailer.php';

$job = json_decode(stream_get_contents(STDIN), true);
try {
    $client = new SmtpMailer\Client(...$job['client']);
    $result = ['done' => $client->{$job['call']}($job['argument'])];
} catch (SmtpMailer\RefusedException $refused) {
    $result = ['refused' => $refused->answer, 'text' => $refused->getMessage()];
} catch (SmtpMailer\UnreachableException $error) {
    $result = ['unreachable' => $error->getMessage(), 'maybeDone' => $error->maybeDone];
}
echo json_encode($result, JSON_THROW_ON_ERROR);
