"""The framing corpus: whatever callers send, what goes upstream is read by three parsers alike (security.md-style duties B1–B27).

A payload is bad when bytes that went upstream are refused by a strict parser or cut differently by two, or when a
request went upstream without the credential.
"""

import asyncio

import ground
import material
import parsers
import payloads

CONFIG = """
[listeners.default]
address = "127.0.0.1:{port}"
[named_credentials.svc]
url = "http://127.0.0.1:{upstream}/allowed"
external_credential = "fixed"
timeouts = { first_byte = "2s" }
[external_credentials.fixed]
flow = "static"
token = { env = "TOKEN" }
"""


def run(options):
    corpus = [(name, payload) for name, _, payload in material.gunicorn_requests(ground.CACHE)]
    borrowed = len(corpus)
    # The corpus names hosts and paths of its authors': a second form leads each to our route.
    corpus += [(f"{name} to the route", _to_route(payload)) for name, payload in corpus]
    corpus += list(payloads.framing())
    return asyncio.run(_attack(corpus, borrowed))


def _to_route(payload):
    method, _, rest = payload.partition(b" /")
    return method + b" /svc/" + rest if rest and b"\r" not in method else payload


async def _attack(corpus, borrowed):
    judges = parsers.Parsers(ground.CACHE)
    upstream = await ground.Upstream().start()
    bad, forwarded, answered, accepted_open = [], 0, 0, []
    loop = asyncio.get_running_loop()
    with ground.Keybearer(CONFIG.replace("{upstream}", str(upstream.port))) as keybearer:
        for name, payload in corpus:
            answer, closed = await ground.send(keybearer.port, payload, 0.15)
            answered += bool(answer)
            for raw in upstream.take():
                forwarded += 1
                verdicts = await loop.run_in_executor(None, judges.judge, raw)
                problem = _problem(verdicts, raw)
                if problem:
                    bad.append({"payload": name, "problem": problem, "upstream": raw[:400].decode("latin-1")})
            if b"HTTP/1.1 400" in answer and not closed:
                accepted_open.append(name)
        alive = await loop.run_in_executor(None, keybearer.is_serving)
    judges.close()
    return {
        "what": "framing corpus against h11, gunicorn and llhttp",
        "payloads": len(corpus), "of them gunicorn's": borrowed, "answered": answered, "connections that reached the upstream": forwarded,
        "bad": bad, "connections left open after a 400": accepted_open, "still serving": alive,
        "passed": not bad and not accepted_open and alive,
    }


def _problem(verdicts, raw):
    refusals = {parser: verdict for parser, verdict in verdicts.items() if isinstance(verdict, str) and verdict != "incomplete"}
    if refusals:
        return f"refused: {refusals}"
    if "incomplete" in verdicts.values():
        # A caller that stopped in mid-body: keybearer ends the upstream connection, as it must.
        return None
    cuts = {parser: tuple(verdict) for parser, verdict in verdicts.items() if verdict is not None}
    if len(set(cuts.values())) > 1:
        return f"cut differently: {cuts}"
    if raw.count(ground.TOKEN.encode()) != len(cuts["h11"]):
        return "a request without the credential, or with two"
    return None
