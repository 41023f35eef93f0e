#!/usr/bin/env python3
"""Runs keybearer beside HAProxy, nginx and Envoy on this machine, prints a table and writes results.json.

Each proxy has one worker on core 0; load and origin share core 1. Rounds are interleaved: every program has its turn
in every round, so that whatever else the machine does hits them alike. Only ratios between lines of one run mean
something. benches/README.md says more.
"""

import argparse
import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True  # the source tree stays as it is

import peers
import rig


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=3, help="of each program in each round")
    arguments.add_argument("--connections", type=int, default=64)
    arguments.add_argument("--keybearer", help="an executable to measure instead of building one")
    arguments.add_argument("--dry", action="store_true", help="do not write results.json")
    options = arguments.parse_args()

    rig.need("wrk", "wrk")
    rig.need("taskset", "util-linux")
    rig.need("openssl", "openssl")
    peers.install()
    keybearer = (options.keybearer and os.path.abspath(options.keybearer)) or rig.built(["--bin", "keybearer"], "keybearer")

    origin = rig.Origin(peers.NGINX, rig.fresh("origin"), "1")
    try:
        results = {
            "machine": rig.machine(),
            "versions": peers.versions(keybearer),
            "settings": {"rounds": options.rounds, "seconds": options.seconds, "connections": options.connections},
            "plain upstream": compare("http", keybearer, origin, options),
            "TLS 1.3 upstream": compare("https", keybearer, origin, options),
        }
    finally:
        origin.program.stop()
    if not options.dry:
        (rig.HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")


def compare(scheme, keybearer, origin, options):
    """All programs against one kind of upstream: warm-up, rounds, table."""
    running = []
    runs = {}
    try:
        for peer, port in peers.peers(keybearer, origin, scheme, rig.free_ports(7)):
            program, folder = peers.start(peer, port, "0")
            running.append((program, port, folder))
            runs[peer.name] = []
            rig.load(port, options.connections, 1, "1")
        for _ in range(options.rounds):
            for program, port, folder in running:
                run = rig.measure(program, origin.program, port, options.connections, options.seconds, "1")
                runs[program.name].append(run)
                for log in folder.glob("access.log"):
                    subprocess.run(["truncate", "-s", "0", log], check=True)
        found = {program.name: rig.summary(runs[program.name]) | {"pss_mib": round(program.pss_mib(), 1)}
                 for program, _, _ in running}
    finally:
        for program, _, _ in running:
            program.stop()
    everything = [run["others_share"] for name in runs for run in runs[name]]
    table(scheme, found, max(everything))
    return found | {"busiest_share_of_other_programs": round(max(everything), 2)}


def table(scheme, found, others):
    base = found["HAProxy"]
    print(f"\n{'TLS 1.3' if scheme == 'https' else 'plain'} upstream"
          f" (other programs took up to {others:.0%} of the machine meanwhile)\n")
    print("| program | CPU µs/request (range) | to HAProxy | requests/s | to HAProxy | p50 ms | p99 ms | PSS MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, line in found.items():
        cost, rate = line["cpu_us_per_request"], line["requests_per_second"]
        low, high = line["cpu_us_per_request_range"]
        print(f"| {name} | {cost:.1f} ({low:.1f}–{high:.1f}) | {cost / base['cpu_us_per_request']:.2f} | {rate:,} "
              f"| {rate / base['requests_per_second']:.2f} | {line['p50_ms']:.2f} | {line['p99_ms']:.2f} "
              f"| {line['pss_mib']:.0f} |")


if __name__ == "__main__":
    main()
