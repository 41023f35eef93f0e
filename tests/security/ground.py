"""What the attacks stand on: a running keybearer, a recording upstream, and callers that send exactly what they are told.

Everything is on loopback. The upstream keeps the raw bytes of every connection and answers each request it can read.
"""

import asyncio
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
CACHE = TARGET / "security" / "material"
TOKEN = "canary-token-of-the-security-tests"


def program():
    """The release build, made if it is not there."""
    given = os.environ.get("KEYBEARER")
    if given:
        return pathlib.Path(given)
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)
    return TARGET / "release" / "keybearer"


def need(tool, package):
    """The path of a tool, or an end that says which package has it."""
    path = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not path:
        raise SystemExit(f"`{tool}` is needed; install the package {package}")
    return path


def raise_open_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Keybearer:
    """`keybearer run` with this configuration, ready; stopped by its own pid on leaving."""

    def __init__(self, config):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="keybearer-security-"))
        self.port, self.admin = free_port(), free_port()
        head = f'[admin]\naddress = "127.0.0.1:{self.admin}"\n[log]\nlevel = "warn"\naccess = "off"\n'
        (self.folder / "proxy.toml").write_text(head + config.replace("{port}", str(self.port)))
        command = [str(program()), "run", "-c", "proxy.toml"]
        self.errors = open(self.folder / "stderr", "wb")
        environment = {"PATH": os.environ["PATH"], "TOKEN": TOKEN}
        self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stderr=self.errors)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            if b"200 OK" in _ask(self.admin, b"/readyz")[:64]:
                return
            time.sleep(0.05)
        self.stop()
        raise SystemExit("keybearer did not start:\n" + (self.folder / "stderr").read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.errors.close()

    def is_serving(self, path=b"/svc/alive"):
        """Whether a plain request is answered with 200."""
        return b" 200 " in _ask(self.port, path)[:32]

    def memory(self):
        """Proportional set size in KiB."""
        text = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])


def sockets(port):
    """Established connections that were accepted on this port."""
    wanted = f":{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        next(table)
        rows = (line.split(None, 4) for line in table)
        # A table that changes while it is read tells of some twice.
        return len({row[2] for row in rows if row[1].endswith(wanted) and row[3] == "01"})


def all_sockets():
    """How many TCP sockets there are in all, of both sides; costs nothing, however many."""
    return int(re.search(r"^TCP: inuse (\d+)", pathlib.Path("/proc/net/sockstat").read_text(), re.M)[1])


def _ask(port, path):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.settimeout(5)
            connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer
    except OSError:
        return b""


class Upstream:
    """Answers every request 200 and keeps what came, raw, connection by connection."""

    def __init__(self):
        self.connections = []
        self.server = None
        self.port = None

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def take(self):
        """What came since the last time."""
        fresh = []
        for connection in self.connections:
            if len(connection.kept) > connection.taken:
                fresh.append(bytes(connection.kept[connection.taken:]))
                connection.taken = len(connection.kept)
        self.connections = [connection for connection in self.connections if connection.open]
        return fresh

    async def _serve(self, reader, writer):
        connection, unread = Kept(), bytearray()
        self.connections.append(connection)
        try:
            while chunk := await reader.read(65536):
                connection.kept += chunk
                unread += chunk
                while (end := _message_end(unread)) is not None:
                    del unread[:end]
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            connection.open = False
            writer.close()


class Kept:
    """What came over one connection, and how much of it was taken."""

    def __init__(self):
        self.kept, self.taken, self.open = bytearray(), 0, True


def _message_end(buffer):
    """Where the first request ends, by the plain reading of its framing; none while it is incomplete."""
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    fields = bytes(buffer[:head]).lower()
    end = head + 4
    if b"\r\ntransfer-encoding:" in fields:
        while True:
            line = buffer.find(b"\r\n", end)
            if line < 0:
                return None
            size = int(bytes(buffer[end:line]).split(b";")[0] or b"0", 16)
            if size == 0:
                last = buffer.find(b"\r\n\r\n", line)
                return None if last < 0 else last + 4
            end = line + 2 + size + 2
            if len(buffer) < end:
                return None
    length = re.search(rb"\r\ncontent-length:\s*(\d+)", fields)
    end += int(length[1]) if length else 0
    return end if len(buffer) >= end else None


async def send(port, payload, patience=0.4):
    """Sends bytes on a connection of their own; the answer until the other side closes or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(payload)
        await writer.drain()
        while True:
            chunk = await asyncio.wait_for(reader.read(65536), patience)
            if not chunk:
                return answer, True
            answer += chunk
    except asyncio.TimeoutError:
        return answer, False
    except ConnectionError:
        return answer, True
    finally:
        writer.close()
