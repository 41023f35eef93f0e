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
[named_credentials.svc]
url = "http://127.0.0.1:{bystanders}/allowed"
external_credential = "fixed"
[named_credentials.bodies]
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
    "slow bodies": ("/bodies/x", ["-B", "-i", "5", "-s", "65536", "-x", "8"], 5000, 75),
    "slow readers": ("/files/large", ["-X", "-w", "256", "-y", "512", "-n", "5", "-z", "32", "-k", "1"], 5000, 75),
}
RATE = 1000

# Where a request goes on, the control is aimed at what stands behind the proxy: generator and server have the same work
# then, and what is left of the difference is ours.
BEHIND = {"slow bodies": "{upstream}/allowed/x", "slow readers": "{files}/large"}

# The longest that opening all of them may take.
OPENING = 55

# Attacks of each kind, after a control each; medians count.
ROUNDS = 5


def run(options):
    tool = ground.need("slowhttptest", "slowhttptest")
    rounds = 1 if options.quick else ROUNDS
    upstream_port, upstream = floods._serve(floods._upstream)
    bystanders_port, bystanders = floods._serve(floods._upstream)
    sink_port, sink = floods._serve(_deaf)
    files = _Files()
    ports = {"upstream": upstream_port, "bystanders": bystanders_port, "files": files.port}
    config = CONFIG
    for name, port in ports.items():
        config = config.replace("{" + name + "}", str(port))
    results, failed = {}, []
    try:
        with ground.Keybearer(config) as keybearer:
            floods._bystand(keybearer.port, time.monotonic() + 1)
            for name, (path, arguments, connections, patience) in KINDS.items():
                connections = connections // 10 if options.quick else connections
                attack = [tool, *arguments, "-c", str(connections), "-r", str(RATE)]
                control = BEHIND.get(name, "{sink}" + path).format(sink=sink_port, **ports)
                controls, attacked = [], []
                for turn in range(rounds):
                    controls.append(_beside(attack, connections, control, keybearer))
                    last = turn == rounds - 1
                    attacked.append(_beside(attack, connections, f"{keybearer.port}{path}", keybearer, patience if last else None))
                result = _summary(connections, controls, attacked)
                results[name] = result
                print(name, result, flush=True)
                # Where a request goes on, two connections stand behind each: the caller's and the upstream's.
                most = 16 if name == "slow heads" else 32
                too_few = result["open at once"] < 0.9 * connections
                if result["ratio of p99"] > 1.5 or result["still open"] or result["KiB each"] > most or too_few:
                    failed.append(name)
            alive = keybearer.is_serving()
    finally:
        for process in (upstream, bystanders, sink):
            process.terminate()
        files.stop()
    return {"what": "slow callers", "kinds": results, "failed": failed, "still serving": alive, "passed": not failed and alive}


def _summary(connections, controls, attacked):
    """Medians over the rounds, with their ranges."""
    def over(rounds, key):
        values = [each[key] for each in rounds]
        return round(statistics.median(values), 2), f"{min(values)} to {max(values)}"

    p99, p99_range = over(attacked, "p99 ms")
    control, control_range = over(controls, "p99 ms")
    return {
        "connections": connections, "rounds": len(attacked), "open at once": min(each["open at once"] for each in attacked),
        "p50 ms": over(attacked, "p50 ms")[0], "p99 ms": p99, "p99 range": p99_range,
        "control p50 ms": over(controls, "p50 ms")[0], "control p99 ms": control, "control p99 range": control_range,
        "ratio of p99": round(p99 / control, 2), "still open": attacked[-1]["still open"],
        "KiB each": max(each["KiB each"] for each in attacked),
    }


def _beside(attack, connections, target, keybearer, patience=None):
    """Attacks `target` while a bystander asks keybearer: from the first connection until some seconds after the last.

    With `patience`, the attack goes on until its connections must be closed, and those that are not are counted.
    """
    port = int(target.partition("/")[0])
    before = keybearer.memory()
    length = OPENING + (patience or 0) + 20
    command = [*attack, "-l", str(length), "-p", "5", "-u", f"http://127.0.0.1:{target}"]
    with tempfile.TemporaryFile() as output:
        seen = _Seen(connections)
        attacker = subprocess.Popen(command, stdout=output, stderr=output)
        still_open = None
        try:
            samples = []
            begin = time.monotonic()
            while not seen.all_open.is_set() and time.monotonic() < begin + OPENING:
                samples += floods._bystand(keybearer.port, time.monotonic() + 1)
            samples += floods._bystand(keybearer.port, time.monotonic() + 6)
            memory = keybearer.memory()
            open_at_once = max(0, ground.sockets(port) - 1)  # slowhttptest's probe
            if patience is not None:
                # All must be closed by now.
                time.sleep(max(0.0, seen.rose.value + patience + 2 - time.monotonic()))
                still_open = max(0, ground.sockets(port) - 1)
        finally:
            seen.stop()
            attacker.terminate()
            attacker.wait(20)
    _settle(port, keybearer.port)
    samples.sort()
    return {
        "open at once": open_at_once, "p50 ms": round(statistics.median(samples) * 1000, 3),
        "p99 ms": round(samples[int(len(samples) * 0.99)] * 1000, 3), "still open": still_open,
        "KiB each": round((memory - before) / max(1, open_at_once), 1),
    }


def _settle(*ports):
    """Waits until the connections of an attack that ended are gone, so that the next begins like it."""
    end = time.monotonic() + 30
    while any(ground.sockets(port) > 1 for port in ports) and time.monotonic() < end:
        time.sleep(0.2)


class _Seen:
    """When the last connection was opened.

    A process of its own: a thread would keep the bystander waiting for Python's lock, five milliseconds at a time. It
    only looks at how many sockets there are in all: to read the kernel's whole table takes half a core while there are
    twenty thousand, most of all where each caller has a connection behind the proxy too, and would be measured instead.
    """

    def __init__(self, connections):
        self.rose = multiprocessing.Value("d", 0)
        self.all_open, self.done = multiprocessing.Event(), multiprocessing.Event()
        self.process = multiprocessing.Process(target=self._watch, args=(connections,), daemon=True)
        self.process.start()

    def _watch(self, connections):
        before, most = ground.all_sockets(), 0
        while not self.done.wait(0.5):
            count = ground.all_sockets() - before
            # The bystander and what else comes and goes are no attackers.
            if count > most * 1.005:
                most, self.rose.value = count, time.monotonic()
            elif count >= max(connections, most * 0.98) and time.monotonic() > self.rose.value + 2:
                # No more of them come: all are open that will be.
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
            f"server {{ listen 127.0.0.1:{self.port} backlog=4096 sndbuf=64k; root {self.folder};\n"
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
