// An upstream for streams: a WebSocket that echoes, an endless event stream, and a gRPC service with the four kinds of
// calls. Each wants a bearer token. Prints its ports as one line of JSON; GET /revoke on the control port ends all
// tokens seen so far, GET /counts tells what was accepted and refused.

import http from 'node:http';
import grpc from '@grpc/grpc-js';
import { WebSocketServer } from 'ws';
import { counts, revoke, takes } from './grants.mjs';

const raw = { requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b };
const method = (name, requestStream, responseStream) => ({ path: `/keybearer.Streams/${name}`, requestStream, responseStream, ...raw });
const service = {
  unary: method('Unary', false, false),
  clientStream: method('ClientStream', true, false),
  serverStream: method('ServerStream', false, true),
  bidirectional: method('Bidirectional', true, true),
  failing: method('Failing', false, false),
};

function admitted(call) {
  return takes(call.metadata.get('authorization')[0]);
}
const refusal = { code: grpc.status.UNAUTHENTICATED, details: 'the token is not good' };

const handlers = {
  unary: (call, done) => (admitted(call) ? done(null, call.request) : done(refusal)),
  failing(call, done) {
    if (!admitted(call)) return done(refusal);
    const trailers = new grpc.Metadata();
    trailers.set('x-reason', 'as asked');
    done({ code: grpc.status.FAILED_PRECONDITION, details: 'it fails: \u00e4%', metadata: trailers });
  },
  clientStream(call, done) {
    if (!admitted(call)) return done(refusal);
    const parts = [];
    call.on('data', (part) => parts.push(part));
    call.on('end', () => done(null, Buffer.concat(parts)));
  },
  serverStream(call) {
    if (!admitted(call)) return call.emit('error', refusal);
    for (let from = 0; from < call.request.length; from += 1000) call.write(call.request.subarray(from, from + 1000));
    call.end();
  },
  bidirectional(call) {
    if (!admitted(call)) return call.emit('error', refusal);
    call.on('data', (part) => call.write(part));
    call.on('end', () => call.end());
  },
};

const rpc = new grpc.Server({ 'grpc.max_receive_message_length': 1 << 26 });
rpc.addService(service, handlers);
const rpcPort = await new Promise((resolve, reject) => {
  rpc.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port)));
});

const web = http.createServer((request, response) => {
  if (!takes(request.headers.authorization)) {
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' });
    return response.end();
  }
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.flushHeaders();
  let number = 0;
  const timer = setInterval(() => {
    response.write(`id: ${number}\ndata: ${Date.now()}\n\n`);
    if (++number === 20) {
      clearInterval(timer);
      response.end();
    }
  }, 25);
  response.on('close', () => clearInterval(timer));
});
const sockets = new WebSocketServer({ noServer: true, maxPayload: 1 << 26, perMessageDeflate: true });
web.on('upgrade', (request, socket, head) => {
  if (!takes(request.headers.authorization)) {
    socket.end('HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error="invalid_token"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    return;
  }
  sockets.handleUpgrade(request, socket, head, (ws) => {
    ws.on('message', (message, isBinary) => ws.send(message, { binary: isBinary }));
    ws.on('error', () => {});
  });
});
await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));

const control = http.createServer((request, response) => {
  if (request.url === '/revoke') revoke();
  response.end(JSON.stringify(counts));
});
await new Promise((resolve) => control.listen(0, '127.0.0.1', resolve));
console.log(JSON.stringify({ web: web.address().port, rpc: rpcPort, control: control.address().port }));
process.stdin.resume();
process.stdin.on('end', () => process.exit());
