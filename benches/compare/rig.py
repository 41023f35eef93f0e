"""What every comparison needs: programs pinned to cores, load, and what a program cost meanwhile."""

import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "target" / "compare"

# What a caller's library sends besides Host.
FIELDS = [
    "User-Agent: python-requests/2.32.3",
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate, br",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
]
PATH = "/orders/42?fields=id,name,email"


def fail(text):
    sys.exit(f"compare: {text}")


def free_ports(count):
    """Ports that nobody uses now; all are held until all are known."""
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def fill(template, values):
    """The text of a template; a name that is left over is a mistake."""
    text = (HERE / "templates" / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    left = re.search(r"@[a-z_]+@", text)
    if left:
        fail(f"{template}: nothing for {left.group()}")
    return text


class Program:
    """A running program, with its children, on the given cores; it runs once it answers with the status `ready`."""

    def __init__(self, name, command, cores, folder, port, ready=200):
        self.name = name
        self.output = folder / "output.txt"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                ["taskset", "-c", cores, *map(str, command)],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )
        deadline = time.monotonic() + 20
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                fail(f"{name} did not start:\n{self.output.read_text(errors='replace')[-2000:]}")
            try:
                asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                asked.request("GET", PATH)
                status = asked.getresponse().status
                asked.close()
                if status == ready:
                    return
            except OSError:
                pass
            time.sleep(0.02)

    def pids(self):
        found = [self.process.pid]
        for pid in found:
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found

    def cpu(self):
        """Seconds on a core so far, user and kernel, of all its threads. schedstat counts nanoseconds."""
        tasks = (task for pid in self.pids() for task in pathlib.Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def pss_mib(self):
        """Memory, what is shared counted by its share."""
        texts = (pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids())
        return sum(int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) for text in texts) / 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Origin:
    """nginx as the API and the token endpoint, on one core."""

    def __init__(self, nginx, folder, core):
        self.folder = folder
        self.token = "tok-" + "x" * 796
        self.plain, self.tls = free_ports(2)
        certificates(folder)
        (folder / "temp").mkdir(exist_ok=True)
        (folder / "origin.conf").write_text(fill("origin.conf", self.values()))
        command = [nginx, "-p", folder, "-c", folder / "origin.conf"]
        self.program = Program("origin", command, core, folder, self.plain, ready=401)

    def values(self):
        return {"token": self.token, "origin_plain": self.plain, "origin_tls": self.tls}


def certificates(folder):
    """An authority, and a certificate of its own for localhost."""
    def openssl(*arguments):
        subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-days", "7", *arguments], cwd=folder, check=True, capture_output=True)
    openssl("-subj", "/CN=compare", "-keyout", "ca-key.pem", "-out", "ca.pem")
    openssl("-subj", "/CN=localhost", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-addext", "subjectAltName=DNS:localhost",
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "certificate.pem")


def load(port, connections, seconds, core):
    """wrk's view of one run: requests, seconds, latencies. An answer that is no success ends everything."""
    fields = [part for field in FIELDS for part in ("-H", field)]
    command = ["taskset", "-c", core, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s",
               *fields, f"http://127.0.0.1:{port}{PATH}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        fail(f"not every request succeeded:\n{said}")
    done = re.search(r"(\d+) requests in ([\d.]+)(s|m)", said)
    return {
        "requests": int(done.group(1)),
        "seconds": float(done.group(2)) * (60 if done.group(3) == "m" else 1),
        "p50_ms": milliseconds(said, "50%"),
        "p99_ms": milliseconds(said, "99%"),
    }


def milliseconds(said, share):
    number, unit = re.search(rf"^\s+{share}\s+([\d.]+)(us|ms|s)", said, re.M).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def measure(program, origin, port, connections, seconds, core):
    """One run against one program, what it cost, and how busy others kept the machine meanwhile."""
    before, others = program.cpu(), Others(program, origin)
    run = load(port, connections, seconds, core)
    run["cpu_us_per_request"] = (program.cpu() - before) * 1e6 / run["requests"]
    run["requests_per_second"] = run["requests"] / run["seconds"]
    run["others_share"] = others.share()
    return run


class Others:
    """The share of all cores that went to programs which are none of ours."""

    def __init__(self, *ours):
        self.ours = ours
        self.started = self.now()

    def now(self):
        ticks = list(map(int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = resource.getrusage(resource.RUSAGE_SELF)
        known = sum(program.cpu() for program in self.ours)
        known += children.ru_utime + children.ru_stime + own.ru_utime + own.ru_stime
        return busy - known, time.monotonic()

    def share(self):
        (busy_before, before), (busy, now) = self.started, self.now()
        return max(0.0, (busy - busy_before) / (now - before) / os.cpu_count())


def summary(runs):
    """Medians of a program's runs, with the spread of what matters most."""
    median = lambda key, digits: round(statistics.median(run[key] for run in runs), digits)
    costs = [run["cpu_us_per_request"] for run in runs]
    return {
        "cpu_us_per_request": median("cpu_us_per_request", 2),
        "cpu_us_per_request_range": [round(min(costs), 2), round(max(costs), 2)],
        "requests_per_second": round(median("requests_per_second", 0)),
        "p50_ms": median("p50_ms", 3),
        "p99_ms": median("p99_ms", 3),
    }


def machine():
    model = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return {"cpu": model.group(1) if model else "unknown", "cores": os.cpu_count()}


def need(program, package):
    if not shutil.which(program):
        fail(f"{program} is missing: apt-get install {package}")


def fresh(name):
    """An empty folder for one program of this run."""
    folder = BUILD / "run" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def built(cargo_arguments, name):
    """The release executable `name`, built now."""
    said = subprocess.run(["cargo", "build", "--release", "--locked", "--message-format=json", *cargo_arguments],
                          cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in said.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    fail(f"cargo built no {name}")
