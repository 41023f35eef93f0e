#!/usr/bin/env python3
"""Attacks a running keybearer, one kind after the other, and says what came of it. Everything stays on loopback.

    tests/security/run.py framing traversal streams floods slow
    tests/security/run.py all

Material and tools are fetched from the package registries where they are missing. Results are printed and written to
target/security/NAME.json; the exit status is 1 when a figure that must hold does not.
"""

import argparse
import importlib
import json
import sys

sys.dont_write_bytecode = True  # the source tree stays as it is

import ground

ATTACKS = ["framing", "traversal", "streams", "floods", "slow"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("attacks", nargs="+", choices=[*ATTACKS, "all"])
    arguments.add_argument("--quick", action="store_true", help="smaller numbers, for a first look")
    options = arguments.parse_args()
    ground.raise_open_files()
    chosen = ATTACKS if "all" in options.attacks else options.attacks
    failed = []
    for name in chosen:
        result = importlib.import_module(name).run(options)
        folder = ground.TARGET / "security"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result, indent=2))
        if not result["passed"]:
            failed.append(name)
    if failed:
        sys.exit(f"did not hold: {', '.join(failed)}")


if __name__ == "__main__":
    main()
