"""The traversal corpus: Debian's wfuzz lists against every kind of route.

An escape is a target that reached the upstream with the credential and, read as some server might read it, lies outside
the prefix of its named credential: as it is (level 0), decoded once with `\\` as a slash and `;` parameters cut (level
1), or decoded again and again (level 2).
"""

import asyncio
import re
import urllib.parse

import ground
import material

ROUTES = """
[listeners.default]
address = "127.0.0.1:{port}"
forward_proxy = true
[named_credentials.svc]
url = "http://127.0.0.1:{upstream}/allowed"
external_credential = "fixed"
[named_credentials.host]
match = { host = "orders.internal" }
url = "http://127.0.0.1:{upstream}/allowed"
external_credential = "fixed"
[named_credentials.nested]
match = { path = "/a/b/c" }
url = "http://127.0.0.1:{upstream}/allowed/deep"
external_credential = "fixed"
[named_credentials.slashes]
url = "http://127.0.0.1:{upstream}/allowed/slashes"
external_credential = "fixed"
path = { encoded_slash = "pass", semicolon = "pass", double_slash = "pass" }
[named_credentials.strict]
url = "http://127.0.0.1:{upstream}/allowed/strict"
external_credential = "fixed"
path = { encoded_slash = "refuse", semicolon = "refuse", double_slash = "refuse" }
[named_credentials.own]
url = "http://127.0.0.1:{upstream}/own"
external_credential = "fixed"
[external_credentials.fixed]
flow = "static"
token = { env = "TOKEN" }
"""

# Route, the text before a line, Host, the prefix that must not be left.
KINDS = [
    ("path", b"/svc", b"localhost", b"/allowed"),
    ("host", b"", b"orders.internal", b"/allowed"),
    ("nested", b"/a/b/c", b"localhost", b"/allowed/deep"),
    ("slashes pass", b"/slashes", b"localhost", b"/allowed/slashes"),
    ("all refused", b"/strict", b"localhost", b"/allowed/strict"),
    ("forward proxy", b"http://127.0.0.1:{upstream}/own", b"127.0.0.1:{upstream}", b"/own"),
]


def run(options):
    # The oracle must see what it is there for.
    for level, target in [(0, b"/allowed/../x"), (1, b"/allowed/%2e%2e%2fx"), (1, b"/allowed/..;/x"), (2, b"/allowed/%252e%252e/x")]:
        assert not _is_within(target, b"/allowed", level), target
    assert all(_is_within(b"/allowed/a%2Fb;c/..d/x", b"/allowed", level) for level in range(3))
    lines = material.traversal_lines(ground.CACHE)
    return asyncio.run(_attack(lines[::20] if options.quick else lines))


async def _attack(lines):
    upstream = await ground.Upstream().start()
    port = str(upstream.port)
    results, total, escapes = {}, 0, []
    with ground.Keybearer(ROUTES.replace("{upstream}", port)) as keybearer:
        for kind, before, host, prefix in KINDS:
            before, host = before.replace(b"{upstream}", port.encode()), host.replace(b"{upstream}", port.encode())
            requests = [
                b"GET " + before + between + line + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
                for line in lines for between in (b"/", b"/x/", b"")
            ]
            levels, reached = [0, 0, 0], 0
            for start in range(0, len(requests), 64):
                await asyncio.gather(*(ground.send(keybearer.port, request, 5) for request in requests[start:start + 64]))
                for raw in upstream.take():
                    for target in re.findall(rb"^[A-Z]+ (\S+) HTTP/1\.1\r$", raw, re.M):
                        reached += 1
                        for level in range(3):
                            if not _is_within(target, prefix, level):
                                levels[level] += 1
                                escapes.append({"route": kind, "level": level, "target": target.decode("latin-1")})
            total += len(requests)
            results[kind] = {"requests": len(requests), "forwarded": reached, "outside at level 0 / 1 / 2": levels}
        alive = await asyncio.get_running_loop().run_in_executor(None, keybearer.is_serving)
    return {
        "what": "traversal strings against every kind of route", "lines": len(lines), "requests": total, "routes": results,
        "escapes": escapes[:50], "still serving": alive, "passed": not escapes and alive,
    }


def _is_within(target, prefix, level):
    path = target.split(b"?")[0]
    readings = [path]
    for _ in range({0: 0, 1: 1, 2: 6}[level]):
        path = urllib.parse.unquote_to_bytes(path)
        readings.append(path)
    for reading in readings[1:] if level else readings:
        if level:
            plain = reading.replace(b"\\", b"/")
            forms = [plain, b"/".join(segment.split(b";")[0] for segment in plain.split(b"/"))]
        else:
            forms = [reading]
        for form in forms:
            kept = []
            for segment in form.split(b"/")[1:]:
                if segment == b"..":
                    if not kept:
                        return False
                    kept.pop()
                elif segment not in (b".", b""):
                    kept.append(segment)
                if segment == b".." and not (b"/" + b"/".join(kept) + b"/").startswith(prefix + b"/"):
                    return False
            if not (b"/" + b"/".join(kept) + b"/").startswith(prefix + b"/"):
                return False
    return True
