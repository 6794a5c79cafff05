<?php
// SPDX-License-Identifier: MIT
/*
 * A client of smtpmailer for PHP 8.1 or newer; TLS needs the openssl extension.
 *
 *     require 'SmtpMailer.php';
 *
 *     $mailer = new SmtpMailer\Client('127.0.0.1', 3000, auth: 'password');
 *     $mail = [
 *         'to' => [['ada@example.com', 'Ada Löwe']], 'ccList' => [], 'bccList' => [],
 *         'subject' => 'Hello', 'body' => '<p>Hi</p>',
 *     ];
 *     $mailer->sendMail($mail);             // returns once the SMTP server has taken it
 *     $name = $mailer->queueMail($mail);    // returns once it is safe in the queue
 *
 * A mail is the API's mail object, see docs/reference/api.md. Its texts are UTF-8; JsonException
 * says when one is not. Each call has a connection of its own.
 */

declare(strict_types=1);

namespace SmtpMailer;

/** The service answered with an error: the same request would fail again. */
final class RefusedException extends \RuntimeException
{
    /** @param array<string, mixed> $answer The whole answer: status, data, message. */
    public function __construct(public readonly array $answer)
    {
        $texts = array_filter([$answer['message'] ?? null, $answer['data'] ?? null]);
        $shown = array_map(
            fn ($text) => is_string($text) ? $text : json_encode($text, JSON_UNESCAPED_UNICODE),
            $texts,
        );
        parent::__construct(implode(': ', $shown));
    }
}

/** There was no answer. */
final class UnreachableException extends \RuntimeException
{
    /**
     * @param bool $maybeDone The request was on its way, and may have been carried out. The service
     *     does not remember requests: sending a mail again may make a second one.
     */
    public function __construct(string $why, public readonly bool $maybeDone)
    {
        parent::__construct($why);
    }
}

final class Client
{
    /** Seconds for a connection and a TLS session. */
    private const CONNECT_LIMIT = 10.0;
    /** Seconds that the service has to end a TLS session. */
    private const FAREWELL_LIMIT = 5.0;
    private const ANSWER_LIMIT_BYTES = 64 * 1024 * 1024;

    /**
     * @param bool $tls Speak TLS; the certificate is always checked.
     * @param string|null $caFile PEM file of the authorities to trust; else the system's.
     * @param string|null $serverName The name in the certificate, when it is not $host.
     * @param string|null $auth The service's password (MAILER_AUTH).
     * @param float $timeout Seconds for a whole call; sendMail answers after the SMTP dialogue.
     */
    public function __construct(
        private readonly string $host = '127.0.0.1',
        private readonly int $port = 3000,
        private readonly bool $tls = false,
        private readonly ?string $caFile = null,
        private readonly ?string $serverName = null,
        private readonly ?string $auth = null,
        private readonly float $timeout = 330.0,
    ) {
    }

    /**
     * Send a mail now.
     *
     * @param array<string, mixed> $mail The mail object.
     * @param array<string, mixed> $more Stands beside the request's name, such as 'detail' => true.
     * @return array<string, mixed> The answer.
     * @throws RefusedException|UnreachableException|\JsonException
     */
    public function sendMail(array $mail, array $more = []): array
    {
        return $this->call(['sendMail' => $mail] + $more);
    }

    /**
     * Queue a mail, which is on stable storage when this returns.
     *
     * @param array<string, mixed> $mail The mail object; 'scheduleTime' says when to send it.
     * @param array<string, mixed> $more As for sendMail.
     * @return string The mail's name in the queue.
     * @throws RefusedException|UnreachableException|\JsonException
     */
    public function queueMail(array $mail, array $more = []): string
    {
        return $this->call(['queueMail' => $mail] + $more)['data'];
    }

    /**
     * Make any request; its name is the first key.
     *
     * @param array<string, mixed> $request
     * @return array<string, mixed> The answer of a success.
     * @throws RefusedException|UnreachableException|\JsonException
     */
    public function call(array $request): array
    {
        $answer = $this->request($request);
        return $answer['status'] === 'success' ? $answer : throw new RefusedException($answer);
    }

    /**
     * Make any request; its name is the first key.
     *
     * The request gets an 'id' when it has none, which the answer has to carry back.
     *
     * @param array<string, mixed> $request
     * @return array<string, mixed> The answer, also when it is an error.
     * @throws UnreachableException|\JsonException
     */
    public function request(array $request): array
    {
        $request += ['id' => bin2hex(random_bytes(8))];
        $bytes = $this->encode($request);
        $deadline = microtime(true) + $this->timeout;
        $stream = $this->connect($deadline);
        try {
            $written = $this->write($stream, $bytes, $deadline);
            if ($written && !$this->tls) {
                stream_socket_shutdown($stream, STREAM_SHUT_WR);
            }
            // The service may have answered and closed without reading everything.
            $line = $this->readLine($stream, $deadline);
        } finally {
            fclose($stream);
        }
        return $this->decode($line, $request['id']);
    }

    /**
     * Write a request and don't wait for its answer: whether the service took it, nobody will know.
     *
     * @param array<string, mixed> $request
     * @throws UnreachableException|\JsonException When it could not be written.
     */
    public function forget(array $request): void
    {
        $bytes = $this->encode($request);
        $deadline = microtime(true) + $this->timeout;
        $stream = $this->connect($deadline);
        try {
            if (!$this->write($stream, $bytes, $deadline)) {
                throw new UnreachableException("{$this->where()}: not written", true);
            }
            stream_socket_shutdown($stream, STREAM_SHUT_WR);
            if ($this->tls) {
                // TLS 1.3 tickets that lie unread would make closing a reset, which takes the
                // request with it: read until the service closes.
                $limit = microtime(true) + self::FAREWELL_LIMIT;
                while ($this->readSome($stream, $limit) !== '') {
                    continue;
                }
            }
        } finally {
            fclose($stream);
        }
    }

    private function encode(array $request): string
    {
        if ($this->auth !== null) {
            $request += ['auth' => $this->auth];
        }
        $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE;
        return json_encode($request, $flags) . "\n";
    }

    private function where(): string
    {
        $host = str_contains($this->host, ':') ? "[{$this->host}]" : $this->host;
        return "{$host}:{$this->port}";
    }

    /** @return resource */
    private function connect(float $deadline)
    {
        $options = [
            'peer_name' => $this->serverName ?? $this->host,
            'crypto_method' =>
                STREAM_CRYPTO_METHOD_TLSv1_2_CLIENT | STREAM_CRYPTO_METHOD_TLSv1_3_CLIENT,
        ];
        $options += $this->caFile === null ? [] : ['cafile' => $this->caFile];
        $context = stream_context_create(['ssl' => $options, 'socket' => ['tcp_nodelay' => true]]);
        $limit = min(self::CONNECT_LIMIT, $deadline - microtime(true));
        $scheme = $this->tls ? 'tls' : 'tcp';
        error_clear_last();
        $stream = @stream_socket_client(
            "{$scheme}://{$this->where()}",
            $code,
            $text,
            max(0.0, $limit),
            STREAM_CLIENT_CONNECT,
            $context,
        );
        if ($stream === false) {
            $text = $text ?: (error_get_last()['message'] ?? '') ?: 'no TLS session';
            throw new UnreachableException("{$this->where()}: no connection: {$text}", false);
        }
        return $stream;
    }

    /** @param resource $stream */
    private function write($stream, string $bytes, float $deadline): bool
    {
        while ($bytes !== '') {
            $this->limit($stream, $deadline);
            $count = @fwrite($stream, $bytes);
            if (!$count) {
                return false;
            }
            $bytes = substr($bytes, $count);
        }
        return true;
    }

    /** @param resource $stream */
    private function readLine($stream, float $deadline): string
    {
        $line = '';
        do {
            $chunk = $this->readSome($stream, $deadline);
            if ($chunk === '') {
                $late = stream_get_meta_data($stream)['timed_out'] || microtime(true) >= $deadline;
                $why = $late ? ' in time' : ': the service closed the connection';
                throw new UnreachableException("{$this->where()}: no answer{$why}", true);
            }
            $line .= $chunk;
        } while (!str_contains($chunk, "\n") && strlen($line) < self::ANSWER_LIMIT_BYTES);
        return $line;
    }

    /** @param resource $stream */
    private function readSome($stream, float $deadline): string
    {
        return $this->limit($stream, $deadline) ? (string) @fread($stream, 65536) : '';
    }

    /** @param resource $stream */
    private function limit($stream, float $deadline): bool
    {
        $left = max(0.001, $deadline - microtime(true));
        stream_set_timeout($stream, (int) $left, (int) (($left - (int) $left) * 1e6));
        return microtime(true) < $deadline;
    }

    /** @return array<string, mixed> */
    private function decode(string $line, mixed $id): array
    {
        $answer = json_decode($line, true);
        if (!is_array($answer) || !in_array($answer['status'] ?? null, ['success', 'error'], true)) {
            $shown = json_encode(substr($line, 0, 60), JSON_INVALID_UTF8_SUBSTITUTE);
            throw new UnreachableException("{$this->where()}: no answer of smtpmailer: {$shown}", true);
        }
        if (($answer['id'] ?? $id) !== $id) {
            throw new UnreachableException("{$this->where()}: another request's answer", true);
        }
        return $answer;
    }
}
