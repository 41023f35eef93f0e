"""Slow callers, by slowhttptest: 10,000 slow heads, 5,000 slow bodies, 5,000 slow readers, beside a bystander.

The control is the same generator aimed at a process that accepts and never answers.
"""

import asyncio
import re
import statistics
import subprocess
import tempfile
import threading
import time

import floods
import ground

CONFIG = """
[listeners.default]
address = "127.0.0.1:{port}"
[limits]
connections = 15000
header_timeout = "10s"
body_timeout = "15s"
[named_credentials.svc]
url = "http://127.0.0.1:{upstream}/allowed"
external_credential = "fixed"
[external_credentials.fixed]
flow = "static"
token = { env = "TOKEN" }
"""

# Options of slowhttptest, connections, and the time after the last one was opened when all must be closed.
KINDS = {
    "slow heads": (["-H", "-i", "5", "-x", "8"], 10000, 10),
    "slow bodies": (["-B", "-i", "5", "-s", "65536", "-x", "8"], 5000, 32),
    "slow readers": (["-X", "-w", "256", "-y", "512", "-n", "5", "-z", "32", "-k", "1"], 5000, 62),
}
RATE = 1000


def run(options):
    tool = ground.need("slowhttptest", "slowhttptest")
    upstream_port, upstream = floods._serve(_large_upstream)
    sink_port, sink = floods._serve(_deaf)
    results, failed = {}, []
    try:
        with ground.Keybearer(CONFIG.replace("{upstream}", str(upstream_port))) as keybearer:
            floods._bystand(keybearer.port, time.monotonic() + 1)
            for name, (arguments, connections, patience) in KINDS.items():
                connections = connections // 10 if options.quick else connections
                control = _beside(tool, arguments, connections, sink_port, keybearer, 10)
                attacked = _beside(tool, arguments, connections, keybearer.port, keybearer, patience)
                attacked["control p99 ms"] = control["p99 ms"]
                attacked["ratio of p99"] = round(attacked["p99 ms"] / control["p99 ms"], 2)
                results[name] = attacked
                print(name, attacked, flush=True)
                if attacked["ratio of p99"] > 1.5 or attacked["still open"] or (name == "slow heads" and attacked["KiB each"] > 16):
                    failed.append(name)
            alive = keybearer.is_serving()
    finally:
        upstream.terminate()
        sink.terminate()
    return {"what": "slow callers", "kinds": results, "failed": failed, "still serving": alive, "passed": not failed and alive}


def _beside(tool, arguments, connections, target, keybearer, patience):
    opening = connections / RATE
    begin = time.monotonic()
    length = int(opening + patience + 5)
    before = keybearer.memory()
    command = [tool, "-c", str(connections), "-r", str(RATE), "-l", str(length), "-p", "5", "-u", f"http://127.0.0.1:{target}/svc/large", *arguments]
    with tempfile.TemporaryFile() as output:
        attacker = subprocess.Popen(command, stdout=output, stderr=output)
        seen = {"most": 0, "memory": before}
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(keybearer, seen, done))
        watcher.start()
        samples = floods._bystand(keybearer.port, begin + opening + 6)
        # All must be closed by now; one connection of the bystander may be open.
        left = max(0.0, begin + opening + patience + 2 - time.monotonic())
        time.sleep(left)
        still_open = max(0, keybearer.sockets() - 1)
        done.set()
        watcher.join()
        attacker.terminate()
        attacker.wait(20)
    samples.sort()
    most = max(1, seen["most"] - 1)
    return {
        "connections": connections, "open at once": seen["most"], "p50 ms": round(statistics.median(samples) * 1000, 3),
        "p99 ms": round(samples[int(len(samples) * 0.99)] * 1000, 3), "still open": still_open,
        "KiB each": round((seen["memory"] - before) / most, 1),
    }


def _watch(keybearer, seen, done):
    while not done.wait(0.5):
        count = keybearer.sockets()
        if count > seen["most"]:
            seen["most"], seen["memory"] = count, keybearer.memory()


def _large_upstream(pipe):
    """64 KiB for /large, two bytes for the rest."""
    async def serve():
        async def one(reader, writer):
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
                    await reader.readexactly(int(length[1]) if length else 0)
                    body = b"x" * (1 << 20 if b"/large" in head.split(b"\r\n")[0] else 2)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    ground.raise_open_files()
    asyncio.run(serve())


def _deaf(pipe):
    """Accepts, reads, and never answers."""
    async def serve():
        async def one(reader, writer):
            try:
                while await reader.read(65536):
                    pass
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    ground.raise_open_files()
    asyncio.run(serve())
