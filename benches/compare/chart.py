"""The chart: CPU time per request of the main scenarios, relative to keybearer, as one SVG.

It names no font of its own, has no background, and takes its colours from the reader's light or dark scheme."""

import html
import math

from peers import OURS, PROXIES

MAIN = [
    ("get", "small GET"),
    ("get-tls", "small GET, TLS 1.3 to the upstream"),
    ("64k-tls", "answer of 64 KiB, TLS 1.3 to the upstream"),
    ("post", "POST of 16 KiB"),
    ("many", "small GET, 1,024 connections"),
    ("new", "small GET, a new connection each"),
    ("h2-in", "small GET over HTTP/2"),
]
WIDTH, LEFT, RIGHT = 720, 92, 150
BAR, GAP, TITLE = 15, 3, 22

STYLE = """
    text { font: 12px ui-sans-serif, system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
    .head { font-size: 14px; font-weight: 600; }
    .title { font-weight: 600; }
    .quiet { fill: #59636e; }
    .ours { fill: #0969da; }
    .other { fill: #afb8c1; }
    .line { stroke: #59636e; stroke-width: 1; stroke-dasharray: 3 3; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .quiet { fill: #9198a1; }
      .ours { fill: #4493f8; }
      .other { fill: #57606a; }
      .line { stroke: #9198a1; }
    }
"""


def svg(found):
    """The whole file. What was not measured is left out."""
    groups = []
    for name, words in MAIN:
        programs = found.get(name, {}).get("programs", {})
        if OURS in programs:
            costs = {program: programs[program]["cpu_us_per_request"] for program in PROXIES if program in programs}
            groups.append((words, costs))
    most = max((cost / costs[OURS] for _, costs in groups for cost in costs.values()), default=1)
    scale = (WIDTH - LEFT - RIGHT) / max(most, 1)
    top = 52
    parts = []
    for words, costs in groups:
        parts.append(f'<text class="title" x="{LEFT}" y="{top + 14}">{html.escape(words)}</text>')
        top += TITLE
        began = top
        for program, cost in costs.items():
            parts.append(bar(top, program, cost, cost / costs[OURS], scale))
            top += BAR + GAP
        parts.append(f'<path class="line" d="M{LEFT + scale:.1f} {began - 2}V{top - 1}"/>')
        top += 8
    height = math.ceil(top + 8)
    head = "CPU time per request, relative to keybearer"
    told = "; ".join(f"{words}: " + ", ".join(f"{program} {cost / costs[OURS]:.2f}" for program, cost in costs.items())
                     for words, costs in groups)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title description">',
        f'  <title id="title">{head}</title>',
        f'  <desc id="description">{html.escape(told or "Nothing was measured yet.")}</desc>',
        f"  <style>{STYLE}  </style>",
        f'  <text class="head" x="{LEFT}" y="20">{head}</text>',
        f'  <text class="quiet" x="{LEFT}" y="38">shorter is better; one worker on one core</text>',
        *(f"  {part}" for part in parts),
        "</svg>\n",
    ])


def bar(top, program, cost, times, scale):
    kind = "ours" if program == OURS else "other"
    length = max(1, times * scale)
    base = top + BAR - 3.5
    return (f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">{html.escape(program)}</text>'
            f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>'
            f'<text x="{WIDTH - 80}" y="{base}" text-anchor="end">{times:.2f}×</text>'
            f'<text class="quiet" x="{WIDTH - 8}" y="{base}" text-anchor="end">{cost:,.1f} µs</text>')
