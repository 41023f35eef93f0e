"""Three independent server-side parsers that judge what keybearer sent upstream: h11, gunicorn and llhttp (Node).

Each gives the requests it reads from one connection's bytes as (method, target, body), or says why it refuses them.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

NODE = r"""
const http = require('http'), { Duplex } = require('stream'), readline = require('readline');
function judge(bytes) {
  return new Promise((resolve) => {
    const seen = []; let refused = null, pending = 0, done = false;
    const server = http.createServer({ insecureHTTPParser: false }, (request, response) => {
      const parts = []; pending++;
      request.on('data', (part) => parts.push(part));
      request.on('end', () => {
        seen.push([request.method, request.url, Buffer.concat(parts).toString('hex')]); pending--;
        response.end('ok');
      });
      request.on('error', () => {});
    });
    server.on('clientError', (error) => { refused = error.code || String(error); finish(); });
    const socket = new Duplex({ read() {}, write(chunk, encoding, next) { next(); } });
    socket.setTimeout = socket.setNoDelay = socket.setKeepAlive = () => socket; socket.destroySoon = () => socket.destroy();
    function finish() { if (!done) { done = true; resolve({ seen, refused, pending }); socket.destroy(); server.close(); } }
    server.emit('connection', socket);
    socket.push(bytes);
    setTimeout(finish, 30);
  });
}
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  judge(Buffer.from(line, 'hex')).then((verdict) => console.log(JSON.stringify(verdict)));
});
"""


class Parsers:
    """The three, ready; end with `close`."""

    def __init__(self, cache):
        tools = cache / "parsers"
        if not tools.is_dir():
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(tools), "h11", "gunicorn"], check=True)
        if str(tools) not in sys.path:
            sys.path.insert(0, str(tools))
        self.script = tempfile.NamedTemporaryFile("w", suffix=".js")
        self.script.write(NODE)
        self.script.flush()
        self.node = subprocess.Popen(["node", self.script.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def close(self):
        self.node.stdin.close()
        self.node.wait(10)

    def judge(self, raw):
        """{parser: list of requests, a text that says why not, or none for no opinion}"""
        return {"h11": _h11(raw), "gunicorn": _gunicorn(raw), "llhttp": self._llhttp(raw)}

    def _llhttp(self, raw):
        self.node.stdin.write(raw.hex().encode() + b"\n")
        self.node.stdin.flush()
        verdict = json.loads(self.node.stdout.readline())
        if verdict["refused"]:
            return f"refused: {verdict['refused']}"
        if verdict["pending"]:
            return "incomplete"
        return [(method.encode(), target.encode("latin-1"), bytes.fromhex(body)) for method, target, body in verdict["seen"]]


def _h11(raw):
    import h11

    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    requests, current = [], None
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                current = [event.method, event.target, b""]
            elif isinstance(event, h11.Data):
                current[2] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                requests.append(tuple(current))
                current = None
                answer = h11.Response(status_code=200, headers=[("content-length", "0")])
                connection.send(answer)
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
            else:
                break
    except h11.RemoteProtocolError as error:
        return f"refused: {error}"
    return "incomplete" if current is not None else requests


def _gunicorn(raw):
    from gunicorn.config import Config
    from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, NoMoreData, ParseException
    from gunicorn.http.parser import RequestParser

    requests = []
    parser = RequestParser(Config(), iter([raw]), ("127.0.0.1", 1))
    try:
        for request in parser:
            body = request.body.read()
            requests.append((request.method.encode(), request.uri.encode("latin-1"), body))
    except (StopIteration, NoMoreData):
        pass
    except (LimitRequestHeaders, LimitRequestLine):
        return None  # Lengths are a matter of taste, not of framing.
    except (ParseException, OSError, ValueError) as error:
        return f"refused: {type(error).__name__}"
    return requests
