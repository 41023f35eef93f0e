"""What was found: results.json, the tables, and the chart."""

import json

import chart
import rig
import scenarios
from peers import OURS

README = rig.HERE.parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"


class Results:
    """results.json, one entry for each scenario; a run changes the entries of what it measured. A dry run has its own."""

    def __init__(self, dry):
        folder = rig.BUILD if dry else rig.HERE
        self.dry = dry
        self.file = folder / "results.json"
        self.chart = folder / "chart.svg"
        self.found = {}
        if self.file.exists():
            self.found = json.loads(self.file.read_text())["scenarios"]

    def add(self, name, found):
        """Written at once, and never halfway."""
        self.found[name] = found
        order = [each.name for each in scenarios.ALL]
        self.found = {name: self.found[name] for name in sorted(self.found, key=order.index)}
        replace(self.file, json.dumps({"scenarios": self.found}, indent=2) + "\n")
        self.render()

    def render(self):
        """Chart and tables from what was found, now or earlier."""
        replace(self.chart, chart.svg(self.found))
        tables = overview(self.found)
        if self.dry:
            replace(rig.BUILD / "tables.md", tables)
            return
        text = README.read_text()
        before, marks, after = text.partition(BEGIN)
        _, end, after = after.partition(END)
        if not marks or not end:
            raise rig.Trouble(f"{README} has no {BEGIN} and {END} any more")
        replace(README, f"{before}{BEGIN}\n\n{tables}\n{END}{after}")


def replace(file, text):
    """The whole file or nothing of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".new")
    partial.write_text(text)
    partial.rename(file)


def number(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}"


def ranged(line, key, digits=1):
    if line.get(key) is None:
        return "–"
    low, high = line[f"{key}_range"]
    return f"{number(line[key], digits)} ({number(low, digits)}–{number(high, digits)})"


def table(head, lines):
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows).replace("| --- ", "|---") + "\n"


def times(line, base, key):
    return "–" if not base or line.get(key) is None else f"{line[key] / base[key]:.2f}"


def closed(found):
    base = found["programs"].get(OURS)
    large = any("cpu_us_per_mib" in line for line in found["programs"].values())
    head = ["program", "CPU µs/request (range)", "to keybearer", "keybearer to it, by rounds (range)", *(["CPU µs/MiB"] if large else []), "requests/s",
            "to keybearer", "p50 ms", "p99 ms", "PSS MiB"]
    return table(head, [
        [name, ranged(line, "cpu_us_per_request"), times(line, base, "cpu_us_per_request"),
         ranged(line, "ours_to_it", 2), *([number(line.get("cpu_us_per_mib"), 0)] if large else []), number(line["requests_per_second"], 0),
         times(line, base, "requests_per_second"), number(line.get("p50_ms"), 2), number(line.get("p99_ms"), 2),
         number(line["pss_mib"], 0)]
        for name, line in found["programs"].items()
    ])


def opened(found):
    return table(["program", "p50 ms (range)", "p99 ms (range)", "p99.9 ms (range)", "CPU µs/request"], [
        [name, ranged(line, "p50_ms", 2), ranged(line, "p99_ms", 2), ranged(line, "p999_ms", 2),
         number(line.get("cpu_us_per_request"))]
        for name, line in found["programs"].items()
    ])


def held(found):
    return table(["program", "connections", "KiB/connection", "PSS MiB before", "PSS MiB"], [
        [name, f"{line['connections']:,}", number(line["kib_per_connection"]), number(line["pss_mib_before"]),
         number(line["pss_mib"])]
        for name, line in found["programs"].items()
    ])


def cold(found):
    return table(["program", "listening after ms (range)", "ready after ms (range)"], [
        [name, ranged(line, "listening_ms"), ranged(line, "ready_ms")] for name, line in found["programs"].items()
    ])


def memory(found):
    return table(["program", "PSS MiB, idle", "at load", "after it"], [
        [name, number(line["pss_mib_idle"]), number(line["pss_mib_at_load"]), number(line["pss_mib_after"])]
        for name, line in found["programs"].items()
    ])


TABLES = {"closed": closed, "open": opened, "held": held, "cold": cold, "memory": memory}


def details(name, found):
    """All about one scenario."""
    rate = next((f", {line['rate']:,} requests/s" for line in found["programs"].values() if "rate" in line), "")
    return (f"\n**{name}**: {found['title']}{rate}; other programs had up to {found['others_share']:.0%} of the machine"
            f" meanwhile.\n\n{TABLES[scenarios.BY_NAME[name].kind](found)}")


def overview(found):
    """The part of benches/README.md that this script writes: all tables."""
    if not found:
        return "Nothing was measured yet.\n"
    kinds = {name: scenarios.BY_NAME[name].kind for name in found}
    parts = [origin_of(found)]
    loads = {name: each for name, each in found.items() if kinds[name] == "closed"}
    if loads:
        programs = list(dict.fromkeys(program for each in loads.values() for program in each["programs"]))
        parts += ["CPU µs per request, and how many times keybearer's that is:\n", matrix(loads, programs, "cpu_us_per_request", 1),
                  "Requests per second, and how many times keybearer's that is:\n", matrix(loads, programs, "requests_per_second", 0)]
    # What the matrices do not show: spread and memory of the two scenarios that count most, and all that is no load.
    parts += [details(name, each).lstrip("\n") for name, each in found.items()
              if name in ("get", "get-tls") or kinds[name] != "closed"]
    return "\n".join(parts)


def matrix(loads, programs, key, digits):
    lines = []
    for name, found in loads.items():
        base = found["programs"].get(OURS)
        cells = []
        for program in programs:
            line = found["programs"].get(program)
            cells.append("" if not line else number(line[key], digits) + (
                "" if program == OURS or not base else f" ({times(line, base, key)}×)"))
        lines.append([f"`{name}`", *cells])
    return table(["scenario", *programs], lines)


def origin_of(found):
    """Where and when the figures come from; of several runs, all."""
    said = dict.fromkeys(
        f"Measured on {each['measured']}, {each['machine']['cpu']}"
        f"{' (virtual machine)' if each['machine'].get('virtual') else ''}, {each['machine']['cores']} cores"
        f"{', ' + each['machine']['kernel'] if 'kernel' in each['machine'] else ''}; "
        + ", ".join(f"{name} {version}" for name, version in each["versions"].items())
        + f"; medians of {each['settings']['rounds']} rounds of {each['settings']['seconds']} s"
        for each in found.values()
    )
    return "\n".join(f"{each}.\n" for each in said)
