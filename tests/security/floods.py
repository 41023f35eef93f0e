"""Eleven kinds of HTTP/2 floods, each for four seconds, beside a bystander's plain requests.

Whenever keybearer ends the flooding connection, the attacker opens another. The control is the same generator aimed at
a process that reads and drops everything, so that what the flood costs the machine is not held against keybearer.
"""

import asyncio
import multiprocessing
import socket
import statistics
import struct
import time

import ground
import streams

SECONDS = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
BATCH = 2000


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _head(method):
    # Indexed :method and :scheme, literal :path and :authority (RFC 7541 6.1, 6.2.2).
    return bytes([method, 0x86, 0x04, 8]) + b"/flood/x" + bytes([0x01, 9]) + b"localhost"


GET, POST = _head(0x82), _head(0x83)


def _same(one):
    """An endless repetition of the same bytes."""
    batch = one * BATCH
    return lambda: iter(lambda: batch, None)


def _with_ids(make):
    def batches():
        stream = 1
        while True:
            yield b"".join(make(number) for number in range(stream, stream + 2 * BATCH, 2))
            stream += 2 * BATCH
    return batches


def _after(first, rest):
    def batches():
        yield first
        yield from rest()
    return batches


KINDS = {
    "SETTINGS": _same(frame(SETTINGS, 0, 0)),
    "PING": _same(frame(PING, 0, 0, bytes(8))),
    "PRIORITY": _same(frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1))),
    "WINDOW_UPDATE": _same(frame(WINDOW, 0, 0, struct.pack(">I", 1))),
    "RST_STREAM (rapid reset)": _with_ids(lambda i: frame(HEADERS, 5, i, GET) + frame(RST, 0, i, struct.pack(">I", 8))),
    "resets we are made to send": _with_ids(lambda i: frame(HEADERS, 4, i, POST) + frame(WINDOW, 0, i, struct.pack(">I", 0))),
    "CONTINUATION": _after(frame(HEADERS, 1, 1, GET), _same(frame(CONTINUATION, 0, 1, b""))),
    "empty DATA": _after(frame(HEADERS, 4, 1, POST), _same(frame(DATA, 0, 1, b""))),
    "tiny DATA": _after(frame(HEADERS, 4, 1, POST), _same(frame(DATA, 0, 1, b"x"))),
    "empty HEADERS": _with_ids(lambda i: frame(HEADERS, 5, i, b"")),
    "unknown frame types": _same(frame(0x42, 0, 0, b"")),
}


def run(_options):
    port_of_upstream, upstream_process = _serve(_upstream)
    port_of_target, target_process = _serve(_upstream)
    port_of_sink, sink_process = _serve(_sink)
    results, failed = {}, []
    try:
        # An upstream of their own for both, so that what the flood costs that one is not held against keybearer.
        flooded = '[named_credentials.flood]\nurl = "http://127.0.0.1:{}"\nexternal_credential = "fixed"\n'
        config = streams.CONFIG.replace("{upstream}", str(port_of_upstream)) + flooded.format(port_of_target)
        with ground.Keybearer(config) as keybearer:
            for name in KINDS:
                control = _beside(name, port_of_sink, keybearer.port)
                flooded = _beside(name, keybearer.port, keybearer.port)
                results[name] = {
                    "ended after s": flooded["first end"], "connections in 4 s": flooded["connections"],
                    "bystander p50 ms": flooded["p50"], "control p50 ms": control["p50"], "ratio": round(flooded["p50"] / control["p50"], 2),
                }
                print(name, results[name], flush=True)
                if flooded["first end"] is None or flooded["first end"] > 1 or flooded["p50"] > 2 * control["p50"]:
                    failed.append(name)
            alive = keybearer.is_serving()
    finally:
        upstream_process.terminate()
        target_process.terminate()
        sink_process.terminate()
    return {"what": "HTTP/2 floods for 4 s each", "kinds": results, "failed": failed, "still serving": alive, "passed": not failed and alive}


def _beside(name, target, proxy):
    """Floods `target` while a bystander asks `proxy`."""
    queue = multiprocessing.Queue()
    attacker = multiprocessing.Process(target=_flood, args=(name, target, queue))
    attacker.start()
    begin = time.monotonic()
    samples = _bystand(proxy, begin + SECONDS)
    first_end, connections = queue.get(timeout=SECONDS + 20)
    attacker.join()
    return {"first end": first_end, "connections": connections, "p50": round(statistics.median(samples) * 1000, 3)}


def _flood(name, port, queue):
    end = time.monotonic() + SECONDS
    first_end, connections = None, 0
    while time.monotonic() < end:
        begin = time.monotonic()
        connections += 1
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as connection:
                connection.settimeout(max(0.05, end - time.monotonic()))
                connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
                for batch in KINDS[name]():
                    connection.sendall(batch)
                    if time.monotonic() > end:
                        break
                else:
                    continue
                continue
        except socket.timeout:
            # Not read any more, and not closed: the connection was not ended.
            continue
        except OSError:
            pass
        if first_end is None:
            first_end = round(time.monotonic() - begin, 3)
    queue.put((first_end, connections))


def _bystand(port, end):
    samples = []
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < end:
            begin = time.monotonic()
            connection.sendall(b"GET /svc/bystander HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer:
                chunk = connection.recv(65536)
                if not chunk:
                    raise SystemExit("the bystander's connection was closed")
                answer += chunk
            if b" 200 " not in answer[:20]:
                raise SystemExit(f"the bystander was answered {answer[:80]!r}")
            samples.append(time.monotonic() - begin)
            time.sleep(0.002)
    return samples


def _serve(main):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=main, args=(theirs,), daemon=True)
    process.start()
    return ours.recv(), process


def _upstream(pipe):
    async def serve():
        upstream = await ground.Upstream().start()
        pipe.send(upstream.port)
        while True:
            await asyncio.sleep(1)
            upstream.take()

    asyncio.run(serve())


def _sink(pipe):
    """Reads and drops what comes, one connection at a time."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        pipe.send(listener.getsockname()[1])
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    while connection.recv(65536):
                        pass
                except OSError:
                    pass
