// npm's `ws` and `@grpc/grpc-js`, and Node's own HTTP client for events: every kind of stream once, a line for each.
// node caller.mjs HOST:PORT

import crypto from 'node:crypto';
import http from 'node:http';
import grpc from '@grpc/grpc-js';
import WebSocket from 'ws';

const authority = process.argv[2];

function say(what, good, more = '') {
  console.log(`${what} ${good ? 'ok' : `bad ${more}`}`);
}

async function socket() {
  const ws = new WebSocket(`ws://${authority}/ws/echo`);
  await new Promise((resolve, reject) => ws.once('open', resolve).once('error', reject));
  const sent = Array.from({ length: 50 }, (_, number) => crypto.randomBytes((number * 2003) % 70_000));
  const received = [];
  const all = new Promise((resolve) => ws.on('message', (data) => received.push(data) === sent.length && resolve()));
  for (const message of sent) ws.send(message);
  await all;
  say('websocket binary', sent.every((message, number) => message.equals(received[number])));
  ws.send('gr\u00fc\u00df');
  const [text, isBinary] = await new Promise((resolve) => ws.once('message', (...message) => resolve(message)));
  say('websocket text', !isBinary && text.toString() === 'gr\u00fc\u00df');
  const pong = new Promise((resolve) => ws.once('pong', resolve));
  ws.ping('p');
  say('websocket ping', (await pong).toString() === 'p');
  const closed = new Promise((resolve) => ws.once('close', (code, reason) => resolve(`${code} ${reason}`)));
  ws.close(4001, 'enough');
  say('websocket close', (await closed) === '4001 enough');
}

function events() {
  return new Promise((resolve, reject) => {
    http.get(`http://${authority}/ws/events`, (answer) => {
      let text = '';
      const pieces = [];
      answer.on('data', (piece) => {
        text += piece;
        pieces.push(piece);
      });
      answer.on('end', () => {
        const numbers = [...text.matchAll(/^id: (\d+)$/gm)].map((found) => Number(found[1]));
        say('events whole', numbers.length === 20 && numbers.every((number, at) => number === at), text);
        // Twenty events over half a second: buffered, they would come in one piece.
        say('events as they come', pieces.length >= 10, `${pieces.length} pieces`);
        resolve();
      });
      answer.on('error', reject);
    }).on('error', reject);
  });
}

const same = (b) => b;
const client = new grpc.Client(authority, grpc.credentials.createInsecure(), { 'grpc.max_receive_message_length': 1 << 26 });
const name = (method) => `/keybearer.Streams/${method}`;
const big = crypto.randomBytes(100_000);

function parts() {
  const list = [];
  for (let from = 0; from < big.length; from += 3000) list.push(big.subarray(from, from + 3000));
  return list;
}

const unary = (method, body) => new Promise((resolve) => {
  let trailers;
  const call = client.makeUnaryRequest(name(method), same, same, body, (error, answer) => setImmediate(() => resolve({ error, answer, trailers })));
  call.on('status', (status) => { trailers = status.metadata; });
});

const clientStream = () => new Promise((resolve, reject) => {
  const call = client.makeClientStreamRequest(name('ClientStream'), same, same, (error, answer) => (error ? reject(error) : resolve(answer)));
  for (const part of parts()) call.write(part);
  call.end();
});

const collect = (call) => new Promise((resolve, reject) => {
  const received = [];
  call.on('data', (part) => received.push(part)).on('end', () => resolve(Buffer.concat(received))).on('error', reject);
});

async function calls() {
  const { answer, error } = await unary('Unary', big);
  say('grpc unary', answer?.equals(big), error);
  say('grpc client stream', (await clientStream()).equals(big));
  say('grpc server stream', (await collect(client.makeServerStreamRequest(name('ServerStream'), same, same, big))).equals(big));
  const both = client.makeBidiStreamRequest(name('Bidirectional'), same, same);
  const received = collect(both);
  for (const part of parts()) both.write(part);
  both.end();
  say('grpc bidirectional', (await received).equals(big));
  const failed = await unary('Failing', big);
  const told = failed.error?.code === grpc.status.FAILED_PRECONDITION && failed.error.details === 'it fails: \u00e4%';
  say('grpc error', told && failed.trailers?.get('x-reason')[0] === 'as asked', failed.error);
  client.close();
}

await socket();
await events();
await calls();
