// The resource server: an API that asks the issuer about every token it sees and caches nothing. It counts what
// reached it, so that a test can say what the proxy sent and what it did not.

import { createHash } from 'node:crypto';
import { Agent, createServer, request as send } from 'node:http';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { INSPECTOR } from './issuer.mjs';

const ZEROS = Buffer.alloc(64 * 1024);
const agent = new Agent({ keepAlive: true, maxSockets: 256, scheduling: 'fifo' });

/** What the issuer says about a token (RFC 7662), or a failure that is never mistaken for "inactive". */
function introspect(url, token) {
  return new Promise((resolve, reject) => {
    const authorization = `Basic ${Buffer.from(`${INSPECTOR.client_id}:${INSPECTOR.client_secret}`).toString('base64')}`;
    const body = new URLSearchParams({ token }).toString();
    const headers = {
      authorization,
      'content-type': 'application/x-www-form-urlencoded',
      'content-length': Buffer.byteLength(body),
    };
    const question = send(url, { agent, method: 'POST', headers }, async (answer) => {
      const chunks = [];
      for await (const chunk of answer) chunks.push(chunk);
      if (answer.statusCode !== 200) return reject(new Error(`introspection answered ${answer.statusCode}`));
      return resolve(JSON.parse(Buffer.concat(chunks)));
    });
    question.on('error', reject);
    question.end(body);
  });
}

async function digest(request) {
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    hash.update(chunk);
  }
  return { length, sha256: hash.digest('hex') };
}

async function echo(request, response, token) {
  const { authorization, ...headers } = request.headers;
  const fields = request.rawHeaders.filter((_, index) => index % 2 === 0);
  const answer = {
    method: request.method,
    path: request.url,
    headers,
    authorizations: fields.filter((name) => name.toLowerCase() === 'authorization').length,
    scheme: authorization.split(' ')[0],
    body: await digest(request),
    token: { client_id: token.client_id, scope: token.scope, aud: token.aud },
  };
  const text = JSON.stringify(answer);
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

function* zeros(size) {
  for (let left = size; left > 0; left -= ZEROS.length) yield left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS;
}

async function download(response, size) {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': size });
  await pipeline(Readable.from(zeros(size)), response);
}

async function upload(request, response) {
  let received = 0;
  for await (const chunk of request) received += chunk.length;
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ received }));
}

/** Answers only when told to: `held` hears of the request, `release` lets it go. */
async function hold(response, held) {
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.write('begun\n');
  await new Promise((release) => held.add(release));
  response.end('done\n');
}

function statusOnly(response, status) {
  response.writeHead(status, status === 304 ? { etag: '"v1"' } : {});
  response.end();
}

function refuse(request, response, why) {
  request.resume();
  response.writeHead(401, { 'www-authenticate': `Bearer realm="orders"${why}`, 'content-type': 'text/plain' });
  response.end('the token is not good\n');
}

async function route(request, response, token, held) {
  const path = new URL(request.url, 'http://api').pathname;
  const [, first, second] = path.split('/');
  if (first === 'echo') return echo(request, response, token);
  if (first === 'upload') return upload(request, response);
  if (first === 'bytes') return download(response, Number(second));
  if (first === 'hold') return hold(response, held);
  if (first === 'status') return statusOnly(response, Number(second));
  request.resume();
  return statusOnly(response, 404);
}

/** Starts the resource server on a free port. */
export async function startResourceServer(introspection) {
  const stats = { requests: 0, with_token: 0, without_token: 0, refused: 0, tokens: [], duplicate_posts: 0, held: 0 };
  const seen = new Set();
  const applied = new Set();
  const held = new Set();

  const serve = async (request, response) => {
    stats.requests += 1;
    const presented = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    if (!presented) {
      stats.without_token += 1;
      return refuse(request, response, '');
    }
    stats.with_token += 1;
    seen.add(createHash('sha256').update(presented).digest('hex').slice(0, 12));
    const token = await introspect(introspection, presented);
    if (!token.active) {
      stats.refused += 1;
      return refuse(request, response, ', error="invalid_token"');
    }
    const id = request.headers['idempotency-key'];
    if (request.method === 'POST' && id) {
      if (applied.has(id)) stats.duplicate_posts += 1;
      applied.add(id);
    }
    return route(request, response, token, held);
  };

  const server = createServer((request, response) => {
    serve(request, response).catch((error) => {
      // A transfer that the caller broke off is no failure of ours; anything else must not pass unnoticed.
      if (!['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes(error.code)) process.stderr.write(`${error.stack}\n`);
      response.destroy();
    });
  });
  server.requestTimeout = 0;
  server.keepAliveTimeout = 120_000;
  server.listen(0, '127.0.0.1', 4096);
  await once(server, 'listening');
  return {
    port: server.address().port,
    stats: () => ({ ...stats, tokens: [...seen], held: held.size }),
    release() {
      for (const release of held) release();
      held.clear();
    },
  };
}
