"""What every comparison needs: a folder, ports, programs pinned to cores, and what a program cost meanwhile."""

import contextlib
import ctypes
import datetime
import fcntl
import http.client
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "target" / "compare"
PROXY_CORE = {0}
LOAD_CORE = {1}

# What a caller's library sends besides Host.
FIELDS = [
    "User-Agent: python-requests/2.32.3",
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate, br",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
]
PATH = "/orders/42?fields=id,name,email"

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG, PR_SET_TIMERSLACK = 1, 29


class Trouble(Exception):
    """Something did not work; the text says what, and what to do."""


def need(program, package):
    """Where it is; Debian keeps servers where only the administrator looks."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not path:
        raise Trouble(f"{program} is missing: apt-get install {package}")
    return path


def need_cores():
    if not PROXY_CORE | LOAD_CORE <= os.sched_getaffinity(0):
        raise Trouble("cores 0 and 1 are needed, one for the proxy and one for load and origin")


@contextlib.contextmanager
def alone():
    """Two runs at a time would measure each other, and they use the same folders."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble("another comparison is running here; wait for its end") from None
        yield


def fresh(name):
    """An empty folder for one program of this run."""
    folder = BUILD / "run" / "".join(letter if letter.isalnum() else "-" for letter in name.lower())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def free_ports(count):
    """Ports that nobody uses now; all are held until all are known."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def fill(template, values):
    """The text of a template with a value for each `@name@`; a line that is empty only then is left out."""
    lines = []
    for line in (HERE / "templates" / template).read_text().splitlines():
        filled = re.sub(r"@([a-z0-9_]+)@", lambda found: str(values[found.group(1)]), line)  # unknown: a KeyError
        if filled.strip() or not line.strip():
            lines.append(filled)
    return "\n".join(lines) + "\n"


def prepare(cores, slack=None):
    """What a program does before it runs: its cores, as many files as it may, and an end when this script ends."""
    def in_child():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if slack:
            LIBC.prctl(PR_SET_TIMERSLACK, slack)
        os.sched_setaffinity(0, cores)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return in_child


def spawn(command, cores, slack=None, **how):
    """Starts a program apart from the terminal, so that it is ended by us and not by Ctrl-C."""
    return subprocess.Popen([str(part) for part in command], start_new_session=True,
                            preexec_fn=prepare(cores, slack), **how)


def end(process, seconds=10):
    """Ends a program and its children by their ids; politely first."""
    if process.poll() is not None:
        return
    children = family(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def family(pid):
    """The process and all below it."""
    found = [pid]
    for each in found:
        with contextlib.suppress(FileNotFoundError):
            for task in pathlib.Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def output_of(command, slack=None, meanwhile=None, seconds=120):
    """Runs a program of the load to its end; what it printed. `meanwhile`: after how many seconds to do what besides."""
    process = spawn(command, LOAD_CORE, slack, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True)
    try:
        if meanwhile:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=meanwhile[0])
            meanwhile[1]()
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Trouble(f"{command[0]} did not end within {seconds} s") from None
    finally:
        end(process)
    if process.returncode:
        raise Trouble(f"{pathlib.Path(command[0]).name} failed:\n{said.strip()[-1500:]}")
    return said


class Program:
    """A running program, with its children, on the given cores."""

    def __init__(self, name, command, folder, cores=PROXY_CORE):
        self.name = name
        self.folder = folder
        self.output = folder / "output.txt"
        with open(self.output, "wb") as output:
            self.began = time.perf_counter()
            self.process = spawn(command, cores, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def wait_until(self, answers, seconds=20):
        """Waits until `answers()` is true."""
        deadline = time.monotonic() + seconds
        while not answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Trouble(f"{self.name} did not start; {self.output} says:\n{self.said()}")
            time.sleep(0.02)

    def said(self):
        return self.output.read_text(errors="replace").strip()[-1500:]

    def check(self):
        if self.process.poll() is not None:
            raise Trouble(f"{self.name} ended by itself; {self.output} says:\n{self.said()}")

    def cpu(self):
        """Seconds on a core so far, user and kernel, of all its threads. schedstat counts nanoseconds."""
        self.check()
        total = 0
        for pid in family(self.process.pid):
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that just ended
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def pss_mib(self):
        """Memory, what is shared counted by its share."""
        self.check()
        texts = (pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in family(self.process.pid))
        return sum(int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) for text in texts) / 1024

    def stop(self):
        end(self.process)


def status(port, path=PATH, tls=False, fields=None):
    """The status of one request over a connection of its own; none when there is no answer."""
    if tls:
        asked = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=ssl._create_unverified_context())
    else:
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asked.request("GET", path, headers=fields or {})
        answer = asked.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        asked.close()


class Others:
    """The share of all cores that went to programs which are none of ours."""

    def __init__(self, ours):
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
        return min(1.0, max(0.0, (busy - busy_before) / (now - before) / os.cpu_count()))


def median(numbers, digits):
    number = statistics.median(numbers)
    return round(number, digits) if digits else round(number)


def spread(numbers, digits):
    return [round(min(numbers), digits), round(max(numbers), digits)]


def summary(runs):
    """Medians of a program's runs of the same load, with the spread of what matters most."""
    costs = [run["cpu_us_per_request"] for run in runs]
    found = {
        "cpu_us_per_request": median(costs, 2),
        "cpu_us_per_request_range": spread(costs, 2),
        "requests_per_second": median([run["requests_per_second"] for run in runs], 0),
    }
    for key in ("p50_ms", "p99_ms"):
        if all(key in run for run in runs):
            found[key] = median([run[key] for run in runs], 3)
    return found


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    memory = re.search(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)
    return {"cpu": model.group(1) if model else "unknown", "cores": os.cpu_count(),
            "virtual": bool(re.search(r"^flags.*\bhypervisor\b", text, re.M)),
            "memory_gib": round(int(memory.group(1)) / 2**20), "kernel": f"{platform.system()} {platform.release()}"}


def today():
    return datetime.date.today().isoformat()


def released():
    """keybearer as it is released, built now."""
    print("building keybearer as it is released (the first time takes some ten minutes)", file=sys.stderr, flush=True)
    done = subprocess.run([ROOT / "deploy" / "release.sh"])
    if done.returncode:
        raise Trouble("deploy/release.sh could not build; its words are above")
    return str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release-pgo" / "keybearer")


def built(cargo_arguments, names):
    """The release executables `names`, built now."""
    print(f"building {', '.join(names)} (release; the first time takes minutes)", file=sys.stderr, flush=True)
    done = subprocess.run(["cargo", "build", "--release", "--locked", "--message-format=json", *cargo_arguments],
                          cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Trouble("cargo could not build; its words are above")
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = {message["target"]["name"]: message["executable"] for message in messages if message.get("executable")}
    missing = set(names) - set(found)
    if missing:
        raise Trouble(f"cargo built no {', '.join(missing)}")
    return [found[name] for name in names]
