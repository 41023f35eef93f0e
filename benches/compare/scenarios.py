"""What is measured: the scenarios by name, and the procedure of each kind."""

import dataclasses
import json
import math
import socket
import time

import load
import origin
import peers
import rig
from peers import CARGO, DEBIAN, DIRECT, FLOOR_NAME, FORWARDER, LOGGING, OURS, PROXIES, SILENT, Setting

EVERYONE = [OURS, LOGGING, "HAProxy", "nginx", "Envoy", FORWARDER, FLOOR_NAME]
OVER_TLS = [name for name in EVERYONE if name != FLOOR_NAME]
MOST = [name for name in EVERYONE if name != LOGGING]
MOST_OVER_TLS = [name for name in MOST if name != FLOOR_NAME]


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One row of `--list`. What `kind` does not use has no effect."""

    name: str
    title: str
    kind: str = "closed"  # closed, open, held, cold, memory
    programs: tuple = ()
    setting: Setting = Setting()
    connections: int = 64
    path: str = rig.PATH
    size: int = 0           # bytes of an answer's body, where it is a large one
    body: int = 0           # bytes of a request's body
    fields: tuple = ()      # of the request, besides the usual ones


TLS = Setting(scheme="https")


def big(name, words, setting):
    size = origin.SIZES[name.removesuffix("-tls")]
    programs = MOST_OVER_TLS if setting.scheme == "https" else MOST
    return Scenario(name, f"GET, answer of {words}, {'TLS 1.3' if setting.scheme == 'https' else 'plain'} upstream",
                    programs=tuple(programs), setting=setting, path=f"/bytes/{name.removesuffix('-tls')}", size=size)


ALL = [
    Scenario("get", "GET, small answer, plain upstream, 64 connections", programs=(*EVERYONE, DEBIAN, CARGO)),
    Scenario("get-tls", "GET, small answer, TLS 1.3 upstream, 64 connections", programs=(*OVER_TLS, DEBIAN, CARGO),
             setting=TLS),
    big("64k", "64 KiB", Setting()),
    big("64k-tls", "64 KiB", TLS),
    big("1m", "1 MiB", Setting()),
    big("1m-tls", "1 MiB", TLS),
    Scenario("post", "POST of 16 KiB, plain upstream, 64 connections", programs=tuple(MOST), path="/upload", body=16384),
    Scenario("one", "GET, plain upstream, 1 connection", programs=tuple(MOST), connections=1),
    Scenario("many", "GET, plain upstream, 1,024 connections", programs=tuple(MOST), connections=1024),
    Scenario("many-tls", "GET, TLS 1.3 upstream, 1,024 connections", programs=tuple(MOST_OVER_TLS), setting=TLS,
             connections=1024),
    Scenario("new", "GET, plain upstream, a new connection for each request", programs=tuple(MOST_OVER_TLS),
             fields=("Connection: close",)),
    Scenario("h2-in", "GET over HTTP/2 (8 connections, 8 streams each), HTTP/1.1 upstream", programs=tuple(PROXIES),
             setting=Setting(version_in="2")),
    Scenario("h2-out", "GET over HTTP/1.1 (64 connections), HTTP/2 upstream", programs=tuple(PROXIES),
             setting=Setting(version_out="2")),
    Scenario("h2-both", "GET over HTTP/2 (8 connections, 8 streams each), HTTP/2 upstream over TLS 1.3",
             programs=tuple(PROXIES), setting=Setting(scheme="https", version_in="2", version_out="2")),
    Scenario("latency", "latency at a fixed rate, plain upstream, 64 connections", "open",
             (DIRECT, *EVERYONE)),
    Scenario("latency-tls", "latency at a fixed rate, TLS 1.3 upstream, 64 connections", "open",
             tuple(MOST_OVER_TLS), TLS),
    Scenario("idle", "idle connections after one request each, HTTP/1.1", "held", (*PROXIES, FORWARDER)),
    Scenario("idle-tls", "idle connections after one request each, HTTP/1.1 over TLS 1.3", "held", tuple(PROXIES),
             Setting(tls_in=True)),
    Scenario("idle-h2", "idle connections after one request each, HTTP/2 without TLS", "held", tuple(PROXIES),
             Setting(version_in="2")),
    Scenario("start", "from exec to listening and to ready", "cold",
             (OURS, SILENT, "HAProxy", "nginx", "Envoy", FORWARDER), Setting(health=True)),
    Scenario("memory", "memory of the program: idle, under load, after it", "memory", tuple(MOST)),
]
BY_NAME = {scenario.name: scenario for scenario in ALL}


@dataclasses.dataclass
class Stage:
    """What all scenarios of a run have in common."""

    origin: origin.Origin
    peers: peers.Peers
    executables: dict   # of keybearer and of the programs of this folder, by name
    raw: object         # the file that takes every round as it is measured


class Run:
    """One scenario being measured: its programs, what was found of each, what failed."""

    def __init__(self, scenario, stage, options, say):
        self.scenario = scenario
        self.peers = stage.peers
        self.origin = stage.origin
        self.executables = stage.executables
        self.raw = stage.raw
        self.options = options
        self.say = lambda text: say(f"{scenario.name:12} {text}")
        self.running = {}
        self.runs = {name: [] for name in scenario.programs}
        self.failed = {}
        self.others = []

    def measure(self):
        """Everything about the scenario; programs are ended however it ends."""
        others = rig.Others([self.origin.program])
        try:
            programs = {"closed": self.closed, "open": self.open, "held": self.held, "cold": self.cold,
                        "memory": self.memory}[self.scenario.kind]()
        finally:
            self.stop()
        found = {"title": self.scenario.title, "programs": programs,
                 "others_share": round(max(self.others or [others.share()]), 3)}
        if self.failed:
            found["failed"] = self.failed
        return found

    def stop(self):
        for program, _ in self.running.values():
            program.stop()
        self.running = {}

    def start(self, name, setting=None):
        """Starts one program and waits until it answers through the origin."""
        setting = setting or self.scenario.setting
        peer = self.peers.peer(name, setting)
        program = peer.start()
        self.running[name] = (program, peer)
        program.wait_until(lambda: rig.status(peer.port, tls=setting.tls_in) == 200)
        return program, peer

    def attempt(self, name, what):
        """Does `what`; a program for which it fails is out of the scenario, and the others go on."""
        try:
            return what()
        except rig.Trouble as trouble:
            self.failed[name] = str(trouble)
            self.say(f"{name} FAILED: {trouble}")
            if name in self.running:
                self.running.pop(name)[0].stop()
            return None

    def rounds(self, count, once):
        """`once(name)` for every program in every round, each round beginning with another one."""
        for number in range(count):
            names = [name for name in self.scenario.programs if name not in self.failed]
            turn = number % len(names) if names else 0
            for name in names[turn:] + names[:turn]:
                self.say(f"round {number + 1}/{count}  {name}")
                run = self.attempt(name, lambda: once(name))
                if run:
                    self.runs[name].append(run)
                    self.raw.write(json.dumps({"scenario": self.scenario.name, "round": number + 1, "program": name} | run)
                                   + "\n")
                    self.raw.flush()
                self.tidy(name)

    def tidy(self, name):
        """An access log would otherwise fill the disk."""
        if name in self.running:
            for log in self.running[name][0].folder.glob("access.log"):
                with open(log, "r+b") as file:
                    file.truncate()

    def survivors(self):
        return [name for name in self.scenario.programs if self.runs[name] and name not in self.failed]

    def ask(self, port, seconds):
        """The load of a closed-loop scenario."""
        scenario = self.scenario
        if scenario.setting.version_in == "2":
            return load.h2load(port, 8, scenario.connections // 8, seconds, scenario.path)
        return load.wrk(port, scenario.connections, seconds, scenario.path, scenario.fields, scenario.body, scenario.size)

    def costing(self, program, load_of_it):
        """What a run of load cost the program, and how busy others kept the machine."""
        others, before = rig.Others([self.origin.program, *(each for each, _ in self.running.values())]), program.cpu()
        run = load_of_it()
        run["cpu_us_per_request"] = (program.cpu() - before) * 1e6 / run["requests"]
        run["others_share"] = others.share()
        self.others.append(run["others_share"])
        return run

    def warm(self):
        """Starts every program, each with a second of load; what each then does in a second. A thousand handshakes
        may take all of that second."""
        seconds = 3 if self.scenario.connections > 1000 else 1
        for name in self.scenario.programs:
            if name != DIRECT:
                self.say(f"warming  {name}")
                if self.attempt(name, lambda: self.start(name)):
                    port = self.running[name][1].port
                    done = self.attempt(name, lambda: self.ask(port, seconds))
                    self.tidy(name)
                    if done:
                        yield name, done["requests_per_second"]

    def closed(self):
        """As many requests as go: each connection sends the next when it has the answer."""
        for _ in self.warm():
            pass

        def once(name):
            program, peer = self.running[name]
            return self.costing(program, lambda: self.ask(peer.port, self.options.seconds))

        self.rounds(self.options.rounds, once)
        found = {}
        for name in self.survivors():
            line = rig.summary(self.runs[name])
            if size := self.scenario.size or self.scenario.body:
                line["cpu_us_per_mib"] = round(line["cpu_us_per_request"] * 2**20 / size, 1)
                line["mib_per_second"] = round(line["requests_per_second"] * size / 2**20)
            line["pss_mib"] = round(self.running[name][0].pss_mib(), 1)
            if name != OURS and OURS in self.survivors():
                # Round by round: what else the machine does changes slowly, and hits both.
                pairs = zip(self.runs[OURS], self.runs[name])
                ratios = [ours["cpu_us_per_request"] / its["cpu_us_per_request"] for ours, its in pairs]
                line["ours_to_it"], line["ours_to_it_range"] = rig.median(ratios, 2), rig.spread(ratios, 2)
            found[name] = line
        return found

    def open(self):
        """A request whenever one is due: half as many as the slowest program could do."""
        rates = dict(self.warm())
        if not rates:
            raise rig.Trouble("no program is left to measure")
        slowest = min(rates, key=rates.get)
        step = 10 ** (len(str(int(rates[slowest] / 2))) - 2)
        rate = max(64, int(rates[slowest] / 2 // step * step))

        def once(name):
            request = self.origin.request(with_token=name == DIRECT)
            generate = lambda port: load.open_loop(self.executables["load"], port, self.scenario.connections, rate,
                                                   self.options.seconds, request)
            if name == DIRECT:
                return generate(self.origin.plain)
            program, peer = self.running[name]
            return self.costing(program, lambda: generate(peer.port))

        self.rounds(self.options.latency_rounds, once)
        found = {}
        for name in self.survivors():
            runs = self.runs[name]
            line = {"rate": rate}
            for key in ("p50_ms", "p99_ms", "p999_ms"):
                line[key] = rig.median([run[key] for run in runs], 3)
                line[f"{key}_range"] = rig.spread([run[key] for run in runs], 3)
            line["own_delay_p99_ms"] = rig.median([run["own_delay_p99_ms"] for run in runs], 3)
            if name != DIRECT:
                line["cpu_us_per_request"] = rig.median([run["cpu_us_per_request"] for run in runs], 2)
            found[name] = line
        self.say(f"half of what {slowest} could do: {rate:,} requests/s")
        return found

    def held(self):
        """What memory many connections take that wait for the next request; one program at a time."""
        count = self.options.held
        found = {}
        for name in self.scenario.programs:
            self.say(f"{count:,} connections  {name}")
            line = self.attempt(name, lambda: self.hold(name, count))
            if line:
                found[name] = line
            self.stop()
        return found

    def hold(self, name, count):
        setting = dataclasses.replace(self.scenario.setting, crowd=count)
        program, peer = self.start(name, setting)
        before = program.pss_mib()
        authority = self.origin.folder / "ca.pem" if setting.tls_in else None
        with load.Held(self.executables["hold"], peer.port, count, f"h{setting.version_in}", authority):
            after = settled(program)
            answering = rig.status(peer.port, tls=setting.tls_in)
        if answering != 200:
            raise rig.Trouble(f"{name} does not answer while it holds {count:,} connections")
        return {"connections": count, "pss_mib_before": round(before, 1), "pss_mib": round(after, 1),
                "kib_per_connection": round((after - before) * 1024 / count, 2)}

    def cold(self):
        """Program by program, again and again: how long until it listens, and until it says that it is ready."""
        with socket.socket() as silent:
            # It accepts, by way of its backlog, and never says a word.
            silent.bind(("127.0.0.1", 0))
            silent.listen(1024)
            settings = {SILENT: dataclasses.replace(self.scenario.setting, token_port=silent.getsockname()[1])}
            self.rounds(self.options.starts, lambda name: self.start_once(name, settings.get(name, self.scenario.setting)))
        found = {}
        for name in self.survivors():
            line = {"starts": len(self.runs[name])}
            for key in ("listening_ms", "ready_ms"):
                if all(key in run for run in self.runs[name]):
                    line[key] = rig.median([run[key] for run in self.runs[name]], 1)
                    line[f"{key}_range"] = rig.spread([run[key] for run in self.runs[name]], 1)
            found[name] = line
        return found

    def start_once(self, name, setting):
        peer = self.peers.peer(name, setting)
        program = peer.start()
        self.running[name] = (program, peer)
        try:
            run = {"listening_ms": until(program, lambda: connects(peer.port))}
            if peer.health:
                run["ready_ms"] = until(program, lambda: is_healthy(*peer.health))
            return run
        finally:
            self.running.pop(name)[0].stop()

    def memory(self):
        """What a program takes before load, in the middle of it, and a while after it; one program at a time."""
        found = {}
        for name in self.scenario.programs:
            self.say(name)
            line = self.attempt(name, lambda: self.remember(name))
            if line:
                found[name] = line
            self.stop()
        return found

    def remember(self, name):
        program, peer = self.start(name)
        idle = settled(program)
        seconds = max(2, self.options.seconds)
        busy = []
        load.wrk(peer.port, self.scenario.connections, seconds,
                 meanwhile=(seconds * 0.7, lambda: busy.append(program.pss_mib())))
        return {"pss_mib_idle": round(idle, 1), "pss_mib_at_load": round(busy[0], 1),
                "pss_mib_after": round(settled(program), 1)}


def settled(program):
    """Memory once it stops changing: allocators give back what they do not need after some seconds."""
    seen = [program.pss_mib()]
    for _ in range(24):
        time.sleep(0.5)
        seen.append(program.pss_mib())
        last = seen[-5:]
        if len(last) == 5 and max(last) - min(last) <= 0.01 * max(last):
            break
    return seen[-1]


def until(program, is_so, seconds=20):
    """Milliseconds from the program's start until `is_so()`."""
    while not is_so():
        program.check()
        if time.perf_counter() - program.began > seconds:
            raise rig.Trouble(f"{program.name} was not there within {seconds} s; {program.output} says:\n{program.said()}")
        time.sleep(0.0002)
    return (time.perf_counter() - program.began) * 1e3


def connects(port):
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def is_healthy(port, path):
    return rig.status(port, path) == 200


def estimate(scenario, options):
    """About how many seconds a scenario takes."""
    count = len(scenario.programs)
    return math.ceil({
        "closed": count * (2 + options.rounds * (options.seconds + 0.2)),
        "open": count * (2 + options.latency_rounds * (options.seconds + 0.6)),
        "held": count * (4 + options.held / (600 if scenario.setting.tls_in else 1500)),
        "cold": count * options.starts * 0.35,
        "memory": count * (options.seconds + 8),
    }[scenario.kind])
