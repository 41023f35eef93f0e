<?php
// PHP's stream wrapper (HTTP/1.0 and 1.1), and by hand what it cannot do: one call of each kind, a line for each.
$base = $argv[1];
$body = str_repeat('k', 100000);

function say(string $what, $content, $expected): void {
    $same = is_int($expected) ? is_string($content) && strlen($content) === $expected : $content === $expected;
    echo $what, ' ', $same ? 'ok' : 'bad ' . substr((string) $content, 0, 200), "\n";
}

function call(string $url, array $options) {
    return file_get_contents($url, false, stream_context_create(['http' => $options + ['ignore_errors' => true]]));
}

/** Reads a whole answer of a connection that closes after it. */
function content($socket): string {
    $answer = stream_get_contents($socket);
    while (preg_match('/^HTTP\/1\.1 1\d\d /', $answer)) {
        $answer = explode("\r\n\r\n", $answer, 2)[1];
    }
    [$head, $content] = explode("\r\n\r\n", $answer, 2) + [1 => ''];
    if (stripos($head, 'transfer-encoding: chunked') === false) {
        return $content;
    }
    $plain = '';
    while (preg_match('/^([0-9a-f]+)\r\n/i', $content, $size) && hexdec($size[1]) > 0) {
        $plain .= substr($content, strlen($size[0]), hexdec($size[1]));
        $content = substr($content, strlen($size[0]) + hexdec($size[1]) + 2);
    }
    return $plain;
}

function connect(string $base) {
    $socket = stream_socket_client('tcp://' . parse_url($base, PHP_URL_HOST) . ':' . parse_url($base, PHP_URL_PORT));
    stream_set_timeout($socket, 20);
    return $socket;
}

$head = 'POST ' . parse_url($base, PHP_URL_PATH) . "/echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
say('get 1.0', call("$base/bytes/1000", ['protocol_version' => 1.0]), 1000);
say('get', call("$base/bytes/1000", ['protocol_version' => 1.1, 'header' => 'Connection: close']), 1000);
say('post', call("$base/echo", ['method' => 'POST', 'content' => $body, 'header' => 'Content-Type: text/plain']), $body);

$socket = connect($base);
fwrite($socket, $head . "Transfer-Encoding: chunked\r\n\r\n");
foreach (str_split($body, 30000) as $part) {
    fwrite($socket, dechex(strlen($part)) . "\r\n$part\r\n");
}
fwrite($socket, "0\r\n\r\n");
say('chunked', content($socket), $body);

$socket = connect($base);
fwrite($socket, str_replace('/echo', '/report', $head) . 'Content-Length: ' . strlen($body) . "\r\nExpect: 100-continue\r\n\r\n");
$interim = fgets($socket);
fgets($socket);
if (strpos($interim, ' 100 ') === false) {
    echo "expect bad $interim\n";
} else {
    fwrite($socket, $body);
    $report = content($socket);
    echo 'expect ', strpos($report, $argv[2]) === false ? $report : 'ok', "\n";
}
