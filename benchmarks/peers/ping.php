<?php
// SPDX-License-Identifier: MIT
// A peer for bench_api.py: an event loop that answers ping.
// Usage: php ping.php PORT
declare(strict_types=1);

[, $port] = $argv;
$context = stream_context_create(['socket' => ['backlog' => 1024, 'tcp_nodelay' => true]]);
$flags = STREAM_SERVER_BIND | STREAM_SERVER_LISTEN;
$server = stream_socket_server("tcp://127.0.0.1:$port", $code, $text, $flags, $context);
if ($server === false) {
    fwrite(STDERR, "$text\n");
    exit(1);
}
stream_set_blocking($server, false);
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
            $client = @stream_socket_accept($server, 0);
            if ($client !== false) {
                stream_set_blocking($client, false);
                $clients[(int) $client] = $client;
                $buffers[(int) $client] = '';
            }
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
        $answer = array_key_first($request) === 'ping'
            ? ['status' => 'success', 'data' => null, 'message' => 'pong']
            : ['status' => 'error', 'data' => null, 'message' => 'invalid request'];
        fwrite($stream, json_encode($answer) . "\n");
    }
}
