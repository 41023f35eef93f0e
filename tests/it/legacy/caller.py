"""Python's requests and, for what it cannot do, http.client: one call of each kind, a line for each."""

import http.client
import sys
import urllib.parse

import requests

base, digest = sys.argv[1:]
body = b"k" * 100_000


def say(what, status, content, expected):
    same = len(content) == expected if isinstance(expected, int) else content == expected
    print(what, "ok" if status == 200 and same else f"{status} {content[:200]!r}")


with requests.Session() as session:
    session.trust_env = False
    answer = session.get(f"{base}/bytes/1000", timeout=20)
    say("get", answer.status_code, answer.content, 1000)
    answer = session.post(f"{base}/echo", data=body, timeout=20)
    say("post", answer.status_code, answer.content, body)
    parts = (body[start:start + 30_000] for start in range(0, len(body), 30_000))
    answer = session.post(f"{base}/echo", data=parts, timeout=20)
    say("chunked", answer.status_code, answer.content, body)

# requests never waits for a 100; this does, and reads the interim answer itself.
url = urllib.parse.urlsplit(base)
connection = http.client.HTTPConnection(url.netloc, timeout=20)
connection.putrequest("POST", url.path + "/report")
connection.putheader("Content-Length", str(len(body)))
connection.putheader("Expect", "100-continue")
connection.endheaders()
interim = b""
while not interim.endswith(b"\r\n\r\n"):
    interim += connection.sock.recv(1)
if not interim.startswith(b"HTTP/1.1 100 "):
    print("expect", interim)
else:
    connection.send(body)
    answer = connection.getresponse()
    report = answer.read()
    print("expect", "ok" if digest.encode() in report else report)
