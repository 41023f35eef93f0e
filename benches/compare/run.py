#!/usr/bin/env python3
"""Runs keybearer beside HAProxy, nginx, Envoy and two reference programs on this machine.

Without names every scenario is measured, which takes about 30 minutes. What is measured is the release as
deploy/release.sh builds it, which takes some ten minutes more the first time. Each proxy has one worker on core 0; load and
origin share core 1. Rounds are interleaved: every program has its turn in every round, so that whatever else the
machine does hits them alike. Only ratios between lines of one scenario mean something. Tables go to standard output;
results.json, chart.svg and the tables in benches/README.md are brought up to date with each scenario that is complete.
benches/README.md says what each measures.
"""

import argparse
import dataclasses
import os
import signal
import sys
import time

sys.dont_write_bytecode = True  # the source tree stays as it is

import origin
import peers
import report
import rig
import scenarios


def options_of(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help="names from --list; default: all")
    parser.add_argument("--list", action="store_true", help="say which scenarios there are, and end")
    parser.add_argument("--report", action="store_true", help="only make tables and chart from results.json anew")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--full", action="store_true", help="enough rounds to tell something (the default)")
    how.add_argument("--quick", action="store_true",
                     help="one short round each, to see whether everything works; implies --dry")
    parser.add_argument("--rounds", type=int, help="default: 5, of latencies 7 (at least)")
    parser.add_argument("--seconds", type=int, help="of each program in each round; default: 2")
    parser.add_argument("--keybearer", help="an executable to measure instead of building the release")
    parser.add_argument("--other", help="another executable of keybearer, to be measured beside it; implies --dry")
    parser.add_argument("--dry", action="store_true", help="write results, chart and tables to target/compare only")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenario if name not in scenarios.BY_NAME]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}; run.py --list names all")
    options.dry |= options.quick or options.other is not None
    options.latency_rounds = options.rounds or (1 if options.quick else 7)
    if not options.quick:
        options.latency_rounds = max(7, options.latency_rounds)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.starts = 3 if options.quick else 20
    options.held = 1000 if options.quick else 10_000
    return options


def main():
    options = options_of(sys.argv[1:])
    if options.list:
        for scenario in scenarios.ALL:
            print(f"{scenario.name:12} {scenario.title}")
        return 0
    results = report.Results(options.dry)
    if options.report:
        results.render()
        return 0
    chosen = [scenarios.BY_NAME[name] for name in options.scenario] or scenarios.ALL
    if options.keybearer:
        chosen = [dataclasses.replace(each, programs=tuple(name for name in each.programs if name != peers.CARGO))
                  for each in chosen]
    if options.other:
        chosen = [dataclasses.replace(each, programs=(*each.programs, peers.OTHER)) for each in chosen]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that everything is ended
    try:
        with rig.alone():
            return measure(chosen, options, results)
    except rig.Trouble as trouble:
        sys.exit(f"compare: {trouble}")
    except KeyboardInterrupt:
        sys.exit(f"\ncompare: interrupted; scenarios that were complete are in {results.file}, "
                 f"single rounds in {rig.BUILD / 'rounds.jsonl'}")


def executables(options):
    """keybearer apart from the others, because what those need would change it a little."""
    names = ["forwarder", "load", "hold"]
    if options.keybearer:
        keybearer = {"keybearer": os.path.abspath(options.keybearer)}
    else:
        keybearer = {"keybearer": rig.released(), "cargo": rig.built(["--bin", "keybearer"], ["keybearer"])[0]}
    built = rig.built([part for name in names for part in ("--example", name)], names)
    other = {"other": os.path.abspath(options.other)} if options.other else {}
    return dict(zip(names, built)) | keybearer | other


def measure(chosen, options, results):
    """Scenario by scenario; the exit status."""
    for program, package in [("wrk", "wrk"), ("h2load", "nghttp2-client"), ("openssl", "openssl"), ("cc", "gcc"),
                             ("nginx", "nginx")]:
        rig.need(program, package)
    rig.need_cores()
    peers.install()
    peers.compile_floor()
    programs = executables(options)
    os.sched_setaffinity(0, rig.LOAD_CORE)
    about = {
        "measured": rig.today(),
        "machine": rig.machine(),
        "versions": peers.versions(programs["keybearer"], was_built=not options.keybearer),
        "settings": {"rounds": options.rounds, "latency_rounds": options.latency_rounds, "seconds": options.seconds},
    }
    progress = Progress(chosen, options)
    failed = []
    upstream = origin.Origin()
    try:
        with open(rig.BUILD / "rounds.jsonl", "a") as raw:
            stage = scenarios.Stage(upstream, peers.Peers(programs, upstream), programs, raw)
            for scenario in chosen:
                progress.begin(scenario)
                try:
                    found = scenarios.Run(scenario, stage, options, progress.say).measure() | about
                except rig.Trouble as trouble:
                    failed.append(f"{scenario.name}: {trouble}")
                    continue
                failed += [f"{scenario.name}: {name}: {why}" for name, why in found.get("failed", {}).items()]
                results.add(scenario.name, found)
                progress.clear()
                print(report.details(scenario.name, found), flush=True)
    finally:
        upstream.program.stop()
    for each in failed:
        print(f"compare: FAILED: {each}", file=sys.stderr)
    print(f"\nwritten: {results.file}", file=sys.stderr)
    return 1 if failed else 0


class Progress:
    """One line on a terminal, one line each elsewhere."""

    def __init__(self, chosen, options):
        self.left = {scenario.name: scenarios.estimate(scenario, options) for scenario in chosen}
        self.began = None
        print(f"{len(chosen)} scenarios, about {sum(self.left.values()) / 60:.0f} minutes", file=sys.stderr, flush=True)

    def begin(self, scenario):
        self.now = self.left.pop(scenario.name, 0)
        self.began = time.monotonic()

    def say(self, text):
        left = max(0, self.now - (time.monotonic() - self.began)) + sum(self.left.values())
        line = f"{text}  (about {left / 60:.0f} min left)" if left > 60 else f"{text}  (about {left:.0f} s left)"
        if sys.stderr.isatty() and "FAILED" not in text:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def clear(self):
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
