#!/usr/bin/env python3
"""What a configuration of many named credentials costs: time from exec to ready, memory, routes, /metrics, reload.

    benches/scale/scale.py [--binary target/release/keybearer] [--counts 10,1000,100000] [--used 50] [--reload 3]

Each named credential has an external credential of its own. The upstream and the token endpoint are one small server
in Python, so the figures of the exchanges are no measure of throughput. With --reload the file is changed in one named
credential and SIGHUP sent while a caller goes on asking, N times; the control run beside it writes the same files
elsewhere and burns the same CPU time in another process instead. Caller and server are processes of their own: threads
would wait for Python's lock. Python's standard library is all it needs.
"""

import argparse
import http.client
import http.server
import json
import multiprocessing
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time


class Origin(http.server.BaseHTTPRequestHandler):
    """Token endpoint on POST, API on GET."""

    protocol_version = "HTTP/1.1"
    # Head and body in one write, at once: otherwise every answer waits 40 ms for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def answer(self, body, content_type):
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(json.dumps({"access_token": "token", "expires_in": 3600}).encode(), "application/json")

    def do_GET(self):
        self.answer(b"hello\n", "text/plain")

    def log_message(self, *_):
        pass


def configuration(count, origin, port, admin, changed=None):
    """The text of a proxy.toml with `count` named credentials; `changed` is the number of one that differs."""
    lines = [
        f'[listeners.default]\naddress = "127.0.0.1:{port}"\n',
        f'[admin]\naddress = "127.0.0.1:{admin}"\n',
        '[log]\nlevel = "info"\naccess = "off"\n',
    ]
    for number in range(count):
        label = "changed" if number == changed else f"Service {number}"
        lines.append(
            f'[named_credentials.service_{number}]\nlabel = "{label}"\nurl = "http://127.0.0.1:{origin}/api/{number}"\n'
            f'external_credential = "identity_{number}"\n\n'
            f'[external_credentials.identity_{number}]\ntoken_endpoint = "http://127.0.0.1:{origin}/token"\n'
            f'scope = "scope_{number}"\nclient_id = "client_{number}"\n'
            f'client_secret = {{ dangerous_literal = "secret_{number}" }}\n'
        )
    return "\n".join(lines)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def pss(pid):
    """Proportional set size in KiB."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))


def cpu(pid):
    """User and system time in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Lines:
    """The log of a process, read as it comes."""

    def __init__(self, stream):
        self.lines, self.arrived = [], threading.Condition()
        threading.Thread(target=self.read, args=(stream,), daemon=True).start()

    def read(self, stream):
        for line in stream:
            with self.arrived:
                self.lines.append(line)
                self.arrived.notify_all()
        with self.arrived:
            self.lines.append("")
            self.arrived.notify_all()

    def wait(self, text, since=0):
        found = lambda: next((line for line in self.lines[since:] if text in line or not line), None)
        with self.arrived:
            self.arrived.wait_for(lambda: found() is not None, 600)
            line = found()
        if not line:
            sys.exit("the program ended or said nothing:\n" + "".join(self.lines[-20:]))
        return line


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def burn(seconds):
    """Burns CPU for this long, in a process of its own."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def latencies(port, paths, until, found):
    """Asks one route after another on one connection until `until` is set; puts the seconds for each into `found`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    took, number = [], 0
    while not until.is_set():
        begun = time.perf_counter()
        connection.request("GET", paths[number % len(paths)])
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            break
        took.append(time.perf_counter() - begun)
        number += 1
    found.put(took if until.is_set() else f"{answer.status} for {paths[number % len(paths)]}")


def exchange(pid, port, paths, count=5000):
    """CPU time of the program for one exchange, in microseconds: all threads, user and kernel."""
    spent = lambda: sum(int(task.joinpath("schedstat").read_text().split()[0])
                        for task in pathlib.Path(f"/proc/{pid}/task").iterdir())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    before = spent()
    for number in range(count):
        connection.request("GET", paths[number % len(paths)])
        connection.getresponse().read()
    return round((spent() - before) / count / 1000, 1)


def asked_while(port, paths, work):
    """The latencies of a caller during `work`, and how long it took."""
    until, answers = multiprocessing.Event(), multiprocessing.Queue()
    caller = multiprocessing.Process(target=latencies, args=(port, paths, until, answers))
    caller.start()
    begun = time.perf_counter()
    result = work()
    took = time.perf_counter() - begun
    until.set()
    found = answers.get(timeout=120)
    caller.join()
    if isinstance(found, str):
        sys.exit(found)
    found.sort()
    at = lambda share: round(found[min(int(len(found) * share), len(found) - 1)] * 1000, 2)
    return {"seconds": round(took, 2), "exchanges": len(found), "p50_ms": at(0.5), "p99_ms": at(0.99),
            "max_ms": round(found[-1] * 1000, 2)}, result


def measure(options, count, origin):
    port, admin = free_ports(2)
    result = {"named_credentials": count}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "proxy.toml")
        file.write_text(configuration(count, origin, port, admin))
        begun = time.perf_counter()
        process = subprocess.Popen(
            [options.binary, "run", "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            lines = Lines(process.stderr)
            lines.wait(" ready")
            result["ready_s"] = round(time.perf_counter() - begun, 3)
            result["ready_cpu_s"] = cpu(process.pid)
            result["pss_kib"] = pss(process.pid)
            used = [f"/service_{number * count // min(options.used, count)}" for number in range(min(options.used, count))]
            for path in used:
                status, _ = fetch(port, path)
                if status != 200:
                    sys.exit(f"{status} for {path}")
            result["pss_used_kib"] = pss(process.pid)
            result["exchange_cpu_us"] = exchange(process.pid, port, used)
            begun = time.perf_counter()
            _, text = fetch(admin, "/metrics")
            result["metrics_ms"] = round((time.perf_counter() - begun) * 1000, 1)
            result["metrics_bytes"] = len(text)
            labels = set(re.findall(rb'keybearer_requests_total\{named_credential="([^"]+)"', text))
            result["metrics_named"] = len(labels)
            result["metrics_external"] = len(set(re.findall(rb'keybearer_mints_total\{external_credential="([^"]+)"', text)))
            result["pss_scraped_kib"] = pss(process.pid)
            if options.reload:
                texts = [configuration(count, origin, port, admin, 1 + number) for number in range(options.reload + 1)]
                reloads(result, process, lines, (port, used), (file, texts))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    return result


def reloads(result, process, lines, asking, changing):
    (port, used), (file, (first, *texts)) = asking, changing

    def reload(text):
        since, before = len(lines.lines), cpu(process.pid)
        file.write_text(text)
        process.send_signal(signal.SIGHUP)
        lines.wait("the new configuration is in use", since)
        return cpu(process.pid) - before

    begun = time.perf_counter()
    reload(first)
    result["reload_quiet_s"] = round(time.perf_counter() - begun, 3)
    result["reload"], spent = asked_while(port, used, lambda: sum(reload(text) for text in texts))
    result["reload_cpu_s"] = round(spent / len(texts), 2)
    result["pss_reloaded_kib"] = pss(process.pid)

    def beside():
        for text in texts:
            file.with_suffix(".other").write_text(text)
            burner = multiprocessing.Process(target=burn, args=(spent / len(texts),))
            burner.start()
            burner.join()

    result["control"], _ = asked_while(port, used, beside)
    result["p99_ratio"] = round(result["reload"]["p99_ms"] / result["control"]["p99_ms"], 2)
    # Retired plans are dropped, and the threads that read the configuration have ended.
    time.sleep(12)
    result["pss_settled_kib"] = pss(process.pid)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/keybearer")
    parser.add_argument("--counts", default="10,1000,100000")
    parser.add_argument("--used", type=int, default=50)
    parser.add_argument("--reload", type=int, default=0, metavar="N", help="so many reloads, and as much work beside")
    parser.add_argument("--write", metavar="FILE", help="only write the configuration of the first count there")
    options = parser.parse_args()
    counts = [int(count) for count in options.counts.split(",")]
    if options.write:
        pathlib.Path(options.write).write_text(configuration(counts[0], 9, 8080, 9901))
        return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    server.daemon_threads = True
    multiprocessing.Process(target=server.serve_forever, daemon=True).start()
    for count in counts:
        print(json.dumps(measure(options, count, server.server_address[1])), flush=True)


if __name__ == "__main__":
    main()
