"""Load of four kinds, each a program of its own: wrk, h2load, and two of this folder."""

import json
import pathlib
import re
import select
import subprocess
import time

import rig


def wrk(port, connections, seconds, path=rig.PATH, fields=(), body=0, least=0, meanwhile=None):
    """wrk's view of one run over HTTP/1.1: requests, seconds, latencies. `least` is how long an answer is at least."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    for field in [*rig.FIELDS, *fields]:
        command += ["-H", field]
    if body:
        script = rig.BUILD / "run" / f"post-{body}.lua"
        script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {body})\n')
        command += ["-s", script]
    said = rig.output_of([*command, f"http://127.0.0.1:{port}{path}"], meanwhile=meanwhile)
    if "Non-2xx" in said or "Socket errors" in said:
        raise rig.Trouble(f"not every request succeeded:\n{said}")
    done = re.search(r"(\d+) requests in ([\d.]+)(s|m), ([\d.]+)(B|KB|MB|GB) read", said)
    requests = int(done.group(1))
    read = float(done.group(4)) * 1024 ** ["B", "KB", "MB", "GB"].index(done.group(5))
    if not requests:
        raise rig.Trouble(f"no request was answered within {seconds} s:\n{said}")
    if read < 0.95 * least * requests:
        raise rig.Trouble(f"answers are shorter than {least} bytes:\n{said}")
    return {
        "requests": requests,
        "requests_per_second": requests / (float(done.group(2)) * (60 if done.group(3) == "m" else 1)),
        "p50_ms": milliseconds(said, "50%"),
        "p99_ms": milliseconds(said, "99%"),
    }


def milliseconds(said, share):
    number, unit = re.search(rf"^\s+{share}\s+([\d.]+)(us|ms|s|m)\s*$", said, re.M).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


def h2load(port, connections, streams, seconds, path=rig.PATH):
    """h2load's view of one run over HTTP/2 without TLS. It tells no percentiles."""
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", "--warm-up-time=0"]
    for field in rig.FIELDS:
        command += ["-H", field]
    started = time.monotonic()
    said = rig.output_of([*command, f"http://127.0.0.1:{port}{path}"])
    took = time.monotonic() - started
    counts = dict((name, int(number)) for number, name in re.findall(r"(\d+) (\w+)", re.search(r"^requests: .*", said, re.M)[0]))
    codes = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said, re.M)
    if not counts.get("succeeded") or counts["failed"] or any(map(int, codes.groups()[1:])):
        raise rig.Trouble(f"not every request succeeded:\n{said}")
    return {"requests": int(codes.group(1)), "requests_per_second": int(codes.group(1)) / max(seconds, min(took, seconds + 0.2))}


def open_loop(program, port, connections, rate, seconds, request):
    """The open-loop generator's view of one run: latencies from when each request was due."""
    file = rig.BUILD / "run" / "request.txt"
    file.write_text(request)
    # The kernel may wake the generator a microsecond late, not fifty.
    said = rig.output_of([program, port, connections, rate, seconds, file], slack=1000)
    return json.loads(said.splitlines()[-1])


class Held:
    """Many idle connections, each after one request; they stay until the end of the `with`."""

    def __init__(self, program, port, count, version, authority=None):
        self.command = [program, port, count, version, *([authority] if authority else [])]

    def __enter__(self):
        self.process = rig.spawn(self.command, rig.LOAD_CORE, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True)
        try:
            ready, _, _ = select.select([self.process.stdout], [], [], 300)
            said = self.process.stdout.readline().strip() if ready else "nothing within 300 s"
            if said != "held":
                raise rig.Trouble(f"{pathlib.Path(self.command[0]).name}: {said}")
        except BaseException:
            rig.end(self.process)
            raise
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        rig.end(self.process)
        self.process.stdout.close()
