"""nghttp2's 133 raw HTTP/2 streams, made from h2spec: after each of them keybearer still serves."""

import asyncio

import ground
import material

CONFIG = """
[listeners.default]
address = "127.0.0.1:{port}"
[named_credentials.svc]
url = "http://127.0.0.1:{upstream}/allowed"
external_credential = "fixed"
[external_credentials.fixed]
flow = "static"
token = { env = "TOKEN" }
"""


def run(_options):
    return asyncio.run(_attack())


async def _attack():
    upstream = await ground.Upstream().start()
    loop = asyncio.get_running_loop()
    broken, answered, closed_by_us = [], 0, 0
    streams = material.nghttp2_streams(ground.CACHE)
    with ground.Keybearer(CONFIG.replace("{upstream}", str(upstream.port))) as keybearer:
        for name, stream in streams:
            answer, closed = await ground.send(keybearer.port, stream, 0.3)
            # A server's connection preface is a SETTINGS frame.
            answered += answer[3:4] == b"\x04"
            closed_by_us += closed
            if not await loop.run_in_executor(None, keybearer.is_serving):
                broken.append(name)
        alive = keybearer.process.poll() is None
    return {
        "what": "nghttp2's raw HTTP/2 streams", "streams": len(streams), "answered in HTTP/2": answered, "closed by keybearer": closed_by_us,
        "after which it did not serve": broken, "still running": alive, "passed": not broken and alive and answered > 100,
    }
