"""Slow callers, by slowhttptest: 10,000 slow heads, 5,000 slow bodies, 5,000 slow readers, beside a bystander.

The control is the same generator aimed past keybearer: at a process that accepts and never answers, or, where requests
go on, at the server behind.
"""

import asyncio
import multiprocessing
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import floods
import ground

CONFIG = """
[listeners.default]
address = "127.0.0.1:{port}"
[limits]
connections = 15000
header_timeout = "60s"
body_timeout = "15s"
[named_credentials.svc]
url = "http://127.0.0.1:{upstream}/allowed"
external_credential = "fixed"
[named_credentials.files]
url = "http://127.0.0.1:{files}"
external_credential = "fixed"
[external_credentials.fixed]
flow = "static"
token = { env = "TOKEN" }
"""

# Target, options of slowhttptest, connections, and the time after the last one was opened when all must be closed.
# A head has longer than the generator needs to open all connections, so that all are open at once.
KINDS = {
    "slow heads": ("/svc/x", ["-H", "-i", "5", "-x", "8"], 10000, 60),
    "slow bodies": ("/svc/x", ["-B", "-i", "5", "-s", "65536", "-x", "8"], 5000, 32),
    "slow readers": ("/files/large", ["-X", "-w", "256", "-y", "512", "-n", "5", "-z", "32", "-k", "1"], 5000, 45),
}
RATE = 1000

# Where a request goes on, the control is aimed at what stands behind the proxy: generator and server have the same work
# then, and what is left of the difference is ours.
BEHIND = {
    "slow bodies": lambda upstream_port, files: f"{upstream_port}/allowed/x",
    "slow readers": lambda upstream_port, files: f"{files.port}/large",
}

# The longest that opening all of them may take.
OPENING = 55


def run(options):
    tool = ground.need("slowhttptest", "slowhttptest")
    upstream_port, upstream = floods._serve(floods._upstream)
    files = _Files()
    sink_port, sink = floods._serve(_deaf)
    results, failed = {}, []
    try:
        with ground.Keybearer(CONFIG.replace("{upstream}", str(upstream_port)).replace("{files}", str(files.port))) as keybearer:
            floods._bystand(keybearer.port, time.monotonic() + 1)
            for name, (path, arguments, connections, patience) in KINDS.items():
                connections = connections // 10 if options.quick else connections
                attack = [tool, *arguments]
                deaf = _beside(attack, connections, f"{sink_port}{path}", keybearer, 10)
                behind = BEHIND.get(name)
                control = _beside(attack, connections, behind(upstream_port, files), keybearer, 10) if behind else deaf
                attacked = _beside(attack, connections, f"{keybearer.port}{path}", keybearer, patience)
                attacked["p99 ms beside a deaf sink"] = deaf["p99 ms"]
                attacked["control p99 ms"] = control["p99 ms"]
                attacked["ratio of p99"] = round(attacked["p99 ms"] / control["p99 ms"], 2)
                results[name] = attacked
                print(name, attacked, flush=True)
                # Where a request goes on, two connections stand behind each: the caller's and the upstream's.
                most = 16 if name == "slow heads" else 32
                too_few = attacked["open at once"] < 0.9 * connections
                if attacked["ratio of p99"] > 1.5 or attacked["still open"] or attacked["KiB each"] > most or too_few:
                    failed.append(name)
            alive = keybearer.is_serving()
    finally:
        upstream.terminate()
        files.stop()
        sink.terminate()
    return {"what": "slow callers", "kinds": results, "failed": failed, "still serving": alive, "passed": not failed and alive}


def _beside(attack, connections, target, keybearer, patience):
    """Attacks `target` while a bystander asks keybearer: from the first connection until some seconds after the last."""
    port = int(target.partition("/")[0])
    before = keybearer.memory()
    length = OPENING + patience + 10
    command = [*attack, "-c", str(connections), "-r", str(RATE), "-l", str(length), "-p", "5", "-u", f"http://127.0.0.1:{target}"]
    with tempfile.TemporaryFile() as output:
        attacker = subprocess.Popen(command, stdout=output, stderr=output)
        seen = _Seen(port, connections, keybearer)
        try:
            samples = []
            begin = time.monotonic()
            while not seen.all_open.is_set() and time.monotonic() < begin + OPENING:
                samples += floods._bystand(keybearer.port, time.monotonic() + 1)
            samples += floods._bystand(keybearer.port, time.monotonic() + 6)
            # All must be closed by now.
            time.sleep(max(0.0, seen.rose.value + patience + 2 - time.monotonic()))
            still_open = max(0, ground.sockets(port) - 1)  # slowhttptest's probe
        finally:
            seen.stop()
            attacker.terminate()
            attacker.wait(20)
    samples.sort()
    return {
        "connections": connections, "open at once": seen.most.value, "p50 ms": round(statistics.median(samples) * 1000, 3),
        "p99 ms": round(samples[int(len(samples) * 0.99)] * 1000, 3), "still open": still_open,
        "KiB each": round((seen.memory.value - before) / max(1, seen.most.value), 1),
    }


class _Seen:
    """How many connections were open at once, when the last was opened, and how much memory keybearer had then.

    A process of its own: a thread would keep the bystander waiting for Python's lock, five milliseconds at a time.
    """

    def __init__(self, port, connections, keybearer):
        self.most, self.memory, self.rose = (multiprocessing.Value(kind, 0) for kind in "qqd")
        self.all_open, self.done = multiprocessing.Event(), multiprocessing.Event()
        self.process = multiprocessing.Process(target=self._watch, args=(port, connections, keybearer), daemon=True)
        self.process.start()

    def _watch(self, port, connections, keybearer):
        while not self.done.wait(1):
            # The bystander and the probe are no attackers.
            count = max(0, ground.sockets(port) - 2)
            if count > self.most.value:
                self.most.value, self.rose.value = count, time.monotonic()
            if count >= self.most.value * 0.98:
                self.memory.value = max(self.memory.value, keybearer.memory())
            if count >= connections * 0.98:
                self.all_open.set()

    def stop(self):
        self.done.set()
        self.process.join(10)


class _Files:
    """An nginx with one file of a mebibyte: what slow readers ask for."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="keybearer-security-nginx-"))
        self.port = ground.free_port()
        (self.folder / "large").write_bytes(b"x" * (1 << 20))
        (self.folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error;\n"
            "events { worker_connections 16384; }\n"
            f"http {{ access_log off; client_body_temp_path {self.folder}/body; keepalive_requests 1000000;\n"
            f"server {{ listen 127.0.0.1:{self.port} backlog=4096; root {self.folder};\n"
            "location / { error_page 405 =200 /large; } } }\n"
        )
        os.chmod(self.folder, 0o755)
        nginx = ground.need("nginx", "nginx")
        self.process = subprocess.Popen([nginx, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")], stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


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
