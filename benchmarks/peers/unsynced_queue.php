<?php
// SPDX-License-Identifier: MIT
// A peer for bench_queue.py: an event loop that keeps each queueMail as a file and syncs nothing.
// Usage: php unsynced_queue.php PORT DIRECTORY
declare(strict_types=1);

[, $port, $directory] = $argv;
$context = stream_context_create(['socket' => ['backlog' => 1024, 'tcp_nodelay' => true]]);
$flags = STREAM_SERVER_BIND | STREAM_SERVER_LISTEN;
$server = stream_socket_server("tcp://127.0.0.1:$port", $code, $text, $flags, $context);
if ($server === false) {
    fwrite(STDERR, "$text\n");
    exit(1);
}
$clients = [(int) $server => $server];
$buffers = [];
while (true) {
    $readable = $clients;
    $none = null;
    if (stream_select($readable, $none, $none, null) === false) {
        exit(1);
    }
    foreach ($readable as $stream) {
        if ($stream === $server) {
            $client = stream_socket_accept($server);
            stream_set_blocking($client, false);
            $clients[(int) $client] = $client;
            $buffers[(int) $client] = '';
            continue;
        }
        $data = fread($stream, 65536);
        if ($data === '' || $data === false) {
            unset($clients[(int) $stream], $buffers[(int) $stream]);
            fclose($stream);
            continue;
        }
        $buffers[(int) $stream] .= $data;
        $request = json_decode($buffers[(int) $stream], true);
        if ($request === null) {
            continue;
        }
        $buffers[(int) $stream] = '';
        $mail = $request['queueMail'];
        $mail['failToDelivered'] = 0;
        [$fraction, $second] = explode(' ', microtime());
        $name = sprintf('mail_%019d.%s_%s.json', $mail['scheduleTime'] ?? $second,
            substr($fraction, 2, 8), bin2hex(random_bytes(8)));
        file_put_contents("$directory/$name", json_encode($mail));
        fwrite($stream, json_encode(
            ['status' => 'success', 'data' => $name, 'message' => 'mail added to queue']) . "\n");
    }
}
