"""Requests of our own for the classes in which framing goes wrong: each a text of bytes with a second request in tow."""

SMUGGLED = b"GET /svc/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def framing():
    """(name, bytes)"""
    yield from _transfer_encoding()
    yield from _content_length()
    yield from _chunks()
    yield from _lines()
    yield from _fields()
    yield from _request_lines()
    yield from _sequences()


def _post(fields, body=b"", target=b"/svc/a", version=b"HTTP/1.1", host=b"Host: localhost\r\n"):
    return b"POST " + target + b" " + version + b"\r\n" + host + fields + b"\r\n" + body


ZERO = b"0\r\n\r\n" + SMUGGLED


def _transfer_encoding():
    lines = [
        b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:chunked", b" Transfer-Encoding: chunked",
        b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: \x0cchunked",
        b"Transfer-Encoding: chunked\x00", b"Transfer-Encoding: chunked \t", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: CHUNKED",
        b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding: 'chunked'", b"Transfer-Encoding: chunked,", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: identity", b"Transfer-Encoding: cow", b"Transfer-Encoding:",
        b"Transfer-Encoding: ", b"Transfer_Encoding: chunked", b"Transfer.Encoding: chunked", b"Transfer-Encoding\x00: chunked",
        b"Transfer\xa0Encoding: chunked", b"Transfer-Encoding\xa0: chunked", b"Transfer-Encoding: \xa0chunked", b"X: y\nTransfer-Encoding: chunked",
        b"X: y\rTransfer-Encoding: chunked", b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding\r\n: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"TE: chunked", b"\xef\xbb\xbfTransfer-Encoding: chunked",
        b"Transfer-Encoding: chu\xc5\x84ked", b"transfer-encoding: chun\xe2\x84\xaaed", b"X:Transfer-Encoding: chunked", b"Foo: x\x85Transfer-Encoding: chunked",
    ]
    for number, line in enumerate(lines):
        yield f"te/{number:02d} alone", _post(line + b"\r\n", ZERO)
        yield f"te/{number:02d} before a length", _post(line + b"\r\nContent-Length: 5\r\n", ZERO)
        yield f"te/{number:02d} after a length", _post(b"Content-Length: 5\r\n" + line + b"\r\n", ZERO)
        yield f"te/{number:02d} in 1.0", _post(line + b"\r\n", ZERO, version=b"HTTP/1.0")


def _content_length():
    values = [b"5", b"05", b"+5", b"-5", b"5 ", b" 5", b"\t5", b"5\x0b", b"\x0b5", b"0x5", b"5,5", b"5, 5", b"5, 6", b"5;", b"5.0", b"5e0", b"", b" ", b"five",
              b"\"5\"", b"5_0", b"18446744073709551616", b"18446744073709551621", b"9223372036854775808", b"4294967301", b"99999999999999999999999",
              b"\xb5", b"5\x00", b"\xd9\xa5", b"1 5", b"5\t5", b"5\r\n 5", b"5,", b",5"]
    for number, value in enumerate(values):
        yield f"cl/{number:02d}", _post(b"Content-Length: " + value + b"\r\n", b"abcde" + SMUGGLED)
        yield f"cl/{number:02d} twice", _post(b"Content-Length: 5\r\nContent-Length: " + value + b"\r\n", b"abcde" + SMUGGLED)
        yield f"cl/{number:02d} with get", b"GET /svc/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + value + b"\r\n\r\n" + SMUGGLED
    for name in (b"Content_Length", b"Content-Length ", b" Content-Length", b"Content.Length", b"Content-Length\x00", b"Content-Length\t", b"C\xc3\xb6ntent-Length"):
        yield f"cl/name {name!r}", _post(name + b": 44\r\n", SMUGGLED)
        yield f"cl/name {name!r} beside", _post(b"Content-Length: 0\r\n" + name + b": 44\r\n", SMUGGLED)


def _chunks():
    sizes = [b"5", b"05", b"0000000000000005", b"00000000000000005", b"0x5", b"+5", b"-5", b"5 ", b" 5", b"\t5", b"5\t", b"5;", b"5;a", b"5;a=b", b"5;a=\"b\"", b"5; a",
             b"5 ;a", b"5;a\x00", b"5;\r", b"5;a\n", b"5,", b"5\x0b", b"ffffffffffffffff", b"10000000000000005", b"f" * 15, b"5g", b"", b"\x00", b"5;" + b"a" * 5000, b"5_", b"\xb5"]
    for number, size in enumerate(sizes):
        body = size + b"\r\nabcde\r\n0\r\n\r\n"
        yield f"chunk/{number:02d}", _post(b"Transfer-Encoding: chunked\r\n", body + SMUGGLED)
        yield f"chunk/{number:02d} bare lf", _post(b"Transfer-Encoding: chunked\r\n", body.replace(b"\r\n", b"\n", 1) + SMUGGLED)
    for number, body in enumerate([
        b"5\r\nabcde0\r\n\r\n", b"5\r\nabcdef\r\n0\r\n\r\n", b"5\r\nabcd\r\n0\r\n\r\n", b"5\r\nabcde\r0\r\n\r\n", b"5\r\nabcde\n0\r\n\r\n", b"5\rabcde\r\n0\r\n\r\n",
        b"5\r\nabcde\r\n0\n\r\n", b"5\r\nabcde\r\n0\r\n\n", b"5\r\nabcde\r\n0\r\n\rX", b"0\r\n\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nHost: evil\r\n\r\n", b"0\r\nAuthorization: evil\r\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\n: y\r\n\r\n", b"0\r\nX\r\n\r\n", b"0\r\nX: a\x00b\r\n\r\n",
        b"0\r\nGET /svc/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 3000 + b"\r\n", b"0;\r\n\r\n", b"000\r\n\r\n", b"\r\n0\r\n\r\n",
    ]):
        yield f"chunks/{number:02d}", _post(b"Transfer-Encoding: chunked\r\n", body + SMUGGLED)


def _lines():
    plain = b"GET /svc/a HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\r\n"
    yield "lines/bare lf", plain.replace(b"\r\n", b"\n") + SMUGGLED
    yield "lines/one bare lf", plain.replace(b"\r\nX", b"\nX") + SMUGGLED
    yield "lines/bare cr", plain.replace(b"\r\nX", b"\rX") + SMUGGLED
    yield "lines/bare cr in a value", plain.replace(b"y", b"y\rz") + SMUGGLED
    yield "lines/lf ends the head", plain[:-2] + b"\n" + SMUGGLED
    yield "lines/cr cr lf", plain.replace(b"\r\nX", b"\r\r\nX") + SMUGGLED
    yield "lines/empty before", b"\r\n" + plain + SMUGGLED
    yield "lines/two empty before", b"\r\n\r\n" + plain + SMUGGLED
    yield "lines/lf before", b"\n" + plain + SMUGGLED
    yield "lines/space before", b" " + plain + SMUGGLED
    yield "lines/fold first", plain.replace(b"Host", b" Host") + SMUGGLED
    yield "lines/fold", plain.replace(b"y\r\n", b"y\r\n z\r\n") + SMUGGLED
    yield "lines/tab fold", plain.replace(b"y\r\n", b"y\r\n\tz\r\n") + SMUGGLED
    yield "lines/folded host", plain.replace(b"Host: localhost", b"Host:\r\n localhost") + SMUGGLED
    for byte in (0, 1, 7, 8, 11, 12, 14, 27, 31, 127):
        yield f"lines/control {byte:#x} in a value", plain.replace(b"y", bytes([byte])) + SMUGGLED
        yield f"lines/control {byte:#x} in a name", plain.replace(b"X:", b"X" + bytes([byte]) + b":") + SMUGGLED
        yield f"lines/control {byte:#x} in the target", plain.replace(b"/svc/a", b"/svc/" + bytes([byte])) + SMUGGLED


def _fields():
    for number, lines in enumerate([
        b"", b"Host: localhost\r\nHost: localhost\r\n", b"Host: localhost\r\nHost: evil\r\n", b"Host: local host\r\n", b"Host: localhost/\r\n", b"Host: localhost@evil\r\n",
        b"Host: localhost,evil\r\n", b"Host: \r\n", b"Host : localhost\r\n", b"Host: localhost\r\nX\r\n", b"Host: localhost\r\n: y\r\n", b"Host: localhost\r\nX Y: z\r\n",
        b"Host: localhost\r\nX(Y): z\r\n", b"Host: localhost\r\n\"X\": z\r\n", b"Host: localhost\r\nX\xe9: z\r\n", b"Host: localhost\r\nX: \xe9\r\n",
        b"Host: localhost\r\nConnection: content-length\r\nContent-Length: 44\r\n", b"Host: localhost\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
        b"Host: localhost\r\nConnection: host\r\n", b"Host: localhost\r\nConnection: authorization\r\n", b"Host: localhost\r\nConnection: close, x-forwarded-for\r\n",
        b"Host: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Host: localhost\r\nExpect: 100-continue\r\nContent-Length: 44\r\n", b"Host: localhost\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
        b"Host: localhost\r\n" + b"X: y\r\n" * 200, b"Host: localhost\r\nX: " + b"y" * 70000 + b"\r\n",
    ]):
        yield f"fields/{number:02d}", b"GET /svc/a HTTP/1.1\r\n" + lines + b"\r\n" + SMUGGLED
        yield f"fields/{number:02d} with a body", b"POST /svc/a HTTP/1.1\r\n" + lines + b"\r\n" + SMUGGLED


def _request_lines():
    for number, line in enumerate([
        b"GET  /svc/a HTTP/1.1", b"GET /svc/a  HTTP/1.1", b"GET\t/svc/a HTTP/1.1", b"GET /svc/a\tHTTP/1.1", b"GET /svc/a HTTP/1.1 ", b"GET /svc/a HTTP/1.1 HTTP/1.1", b"GET /svc/a b HTTP/1.1",
        b"GET /svc/a", b"GET /svc/a HTTP/0.9", b"GET /svc/a HTTP/1.2", b"GET /svc/a HTTP/1.01", b"GET /svc/a HTTP/1.10", b"GET /svc/a HTTP/2.0", b"GET /svc/a HTTP/9.9", b"GET /svc/a http/1.1",
        b"GET /svc/a HTTP/1,1", b"GET /svc/a HTTP/ 1.1", b"GET /svc/a XHTTP/1.1", b"get /svc/a HTTP/1.1", b"G\x00T /svc/a HTTP/1.1", b"G@T /svc/a HTTP/1.1", b"GET svc/a HTTP/1.1", b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1", b"GET localhost:80 HTTP/1.1", b"GET http://localhost/svc/a HTTP/1.1", b"GET http://evil/svc/a HTTP/1.1", b"GET https://localhost/svc/a HTTP/1.1",
        b"GET http://localhost@evil/svc/a HTTP/1.1", b"GET ftp://localhost/svc/a HTTP/1.1", b"GET //evil/svc/a HTTP/1.1", b"GET /svc/a#b HTTP/1.1", b"GET /svc/a?b#c HTTP/1.1", b"GET /svc/\xc3\xa9 HTTP/1.1",
        b"CONNECT localhost:80 HTTP/1.1", b"CONNECT /svc/a HTTP/1.1", b"TRACE /svc/a HTTP/1.1", b"PRI * HTTP/2.0", b"A" * 40 + b" /svc/a HTTP/1.1", b"GET /svc/" + b"a" * 20000 + b" HTTP/1.1", b" GET /svc/a HTTP/1.1",
        b"\x16\x03\x01\x02\x00", b"GET /svc/%0d%0aX:y HTTP/1.1", b"GET /svc/a%20HTTP/1.1%0d%0aHost:evil HTTP/1.1", b"GET /svc/a?\" HTTP/1.1", b"GET /svc/a?<> HTTP/1.1",
    ]):
        yield f"request line/{number:02d}", line + b"\r\nHost: localhost\r\n\r\n" + SMUGGLED


def _sequences():
    get = b"GET /svc/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield "sequence/pipelined", get * 20
    yield "sequence/post then get", _post(b"Content-Length: 5\r\n", b"abcde") + get
    yield "sequence/chunked then get", _post(b"Transfer-Encoding: chunked\r\n", b"5\r\nabcde\r\n0\r\n\r\n") + get
    yield "sequence/body cut short", _post(b"Content-Length: 500\r\n", get)
    yield "sequence/chunked cut short", _post(b"Transfer-Encoding: chunked\r\n", b"5\r\nabc")
    yield "sequence/chunked cut in its size", _post(b"Transfer-Encoding: chunked\r\n", b"5")
    yield "sequence/head cut short", b"GET /svc/a HTTP/1.1\r\nHost: loc"
    yield "sequence/unknown route with a body", b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 44\r\n\r\n" + SMUGGLED + get
    yield "sequence/refused with a chunked body", b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2c\r\n" + SMUGGLED[:44] + b"\r\n0\r\n\r\n" + get
    yield "sequence/upgrade with bytes after", (b"GET /svc/a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                                               b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n") + SMUGGLED
    yield "sequence/connect with bytes after", b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n" + SMUGGLED
