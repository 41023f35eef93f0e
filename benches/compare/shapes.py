#!/usr/bin/env python3
"""Runs keybearer in both runtime shapes beside each other and prints the table that decides between them.

One core: the proxy has core 0 and one worker, load and origin share core 1. Two cores: the proxy has both and two
workers, and shares them with load and origin. Access log off, plain upstream, rounds interleaved.
"""

import argparse
import sys

sys.dont_write_bytecode = True  # the source tree stays as it is

import load
import origin as origins
import rig

SHAPES = ["per-core", "shared"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--seconds", type=int, default=2, help="of each shape in each round")
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 64, 1024])
    options = arguments.parse_args()

    rig.need("wrk", "wrk")
    rig.need("openssl", "openssl")
    rig.need("nginx", "nginx")
    [binary] = rig.built(["--example", "shapes"], ["shapes"])
    print("| cores | connections | shape | CPU µs/request (range) | requests/s | p50 ms | p99 ms | PSS MiB | others |")
    print("|---|---|---|---|---|---|---|---|---|")
    for workers, cores, load_cores in [(1, {0}, {1}), (2, {0, 1}, {0, 1})]:
        rig.LOAD_CORE = load_cores
        origin = origins.Origin(load_cores)
        try:
            for connections in options.connections:
                compare(binary, workers, cores, connections, origin, options)
        finally:
            origin.program.stop()


def compare(binary, workers, cores, connections, origin, options):
    """Both shapes in one setting: two lines of the table."""
    running = []
    runs = {shape: [] for shape in SHAPES}
    try:
        for shape in SHAPES:
            port, admin_port = rig.free_ports(2)
            folder = rig.fresh(shape)
            (folder / "proxy.toml").write_text(rig.fill("keybearer.toml", origin.values() | {
                "port": port, "admin_port": admin_port, "scheme": "http", "origin": origin.plain,
                "access_log": '"off"', "workers": workers, "tls": "",
                "http": "", "listener": "", "limits": "", "token_port": origin.plain, "mint": "",
            }))
            program = rig.Program(shape, [binary, shape, "proxy.toml"], folder, cores)
            running.append((program, port))
            program.wait_until(lambda: rig.status(port) == 200)
            load.wrk(port, connections, 1)
        for _ in range(options.rounds):
            for program, port in running:
                others, before = rig.Others([program, origin.program]), program.cpu()
                run = load.wrk(port, connections, options.seconds)
                run["cpu_us_per_request"] = (program.cpu() - before) * 1e6 / run["requests"]
                run["others_share"] = others.share()
                runs[program.name].append(run)
        for program, _ in running:
            line = rig.summary(runs[program.name])
            low, high = line["cpu_us_per_request_range"]
            others = max(run["others_share"] for run in runs[program.name])
            print(f"| {workers} | {connections:,} | {program.name} | {line['cpu_us_per_request']:.1f} ({low:.1f}–{high:.1f}) "
                  f"| {line['requests_per_second']:,} | {line['p50_ms']:.2f} | {line['p99_ms']:.2f} "
                  f"| {program.pss_mib():.0f} | {others:.0%} |", flush=True)
    finally:
        for program, _ in running:
            program.stop()


if __name__ == "__main__":
    try:
        with rig.alone():
            main()
    except rig.Trouble as trouble:
        sys.exit(f"shapes: {trouble}")
