// The resource server: an API that asks the issuer about every token it sees and caches nothing. It counts what
// reached it, so that a test can say what the proxy sent and what it did not.

import { createHash, randomBytes } from 'node:crypto';
import { Agent, createServer, request as send } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import * as jose from 'jose';

import { INSPECTOR, REQUEST_CERTIFICATE, clientCertificate } from './issuer.mjs';

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
    token: { client_id: token.client_id, scope: token.scope, aud: token.aud, cnf: token.cnf },
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

function refuse(request, response, why, scheme = 'Bearer', fields = {}) {
  request.resume();
  const challenge = { 'www-authenticate': `${scheme} realm="orders"${why}` };
  response.writeHead(401, { ...challenge, 'content-type': 'text/plain', ...fields });
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

/** What a DPoP proof must prove for this request (RFC 9449 4.3); the error code otherwise. */
async function proofProblem({ request, presented, token, origin, nonce, proofs }) {
  const proof = request.headers.dpop;
  if (!proof || proof.includes(',')) return 'invalid_dpop_proof';
  try {
    const { payload, protectedHeader } = await jose.jwtVerify(proof, jose.EmbeddedJWK, { typ: 'dpop+jwt', maxTokenAge: 60 });
    if (nonce && payload.nonce !== nonce) return 'use_dpop_nonce';
    const ath = createHash('sha256').update(presented).digest('base64url');
    const bound = (await jose.calculateJwkThumbprint(protectedHeader.jwk)) === token.cnf?.jkt;
    const htu = `${origin}${new URL(request.url, origin).pathname}`;
    if (payload.htm !== request.method || payload.htu !== htu || payload.ath !== ath || !bound) return 'invalid_dpop_proof';
    if (proofs.has(payload.jti)) return 'invalid_dpop_proof';
    proofs.add(payload.jti);
    return undefined;
  } catch {
    return 'invalid_dpop_proof';
  }
}

/** Whether the connection's certificate is the one that a certificate-bound token names (RFC 8705 3). */
function certificateProblem(request, token) {
  const bound = token.cnf?.['x5t#S256'];
  if (!bound) return undefined;
  const shown = clientCertificate(request)?.sha256.replaceAll(':', '');
  return shown && Buffer.from(shown, 'hex').toString('base64url') === bound ? undefined : 'invalid_token';
}

/** Starts the resource server on a free port. */
export async function startResourceServer(introspection, { tls, dpop_nonces: demandsNonces } = {}) {
  let nonce = demandsNonces ? randomBytes(12).toString('base64url') : undefined;
  let origin;
  const proofs = new Set();
  const stats = { requests: 0, with_token: 0, with_proof: 0, nonces_asked: 0, unbound: 0, without_token: 0, refused: 0, tokens: [], duplicate_posts: 0, held: 0 };
  const seen = new Set();
  const applied = new Set();
  const held = new Set();

  const serve = async (request, response) => {
    stats.requests += 1;
    const [, scheme, presented] = /^(Bearer|DPoP) (.+)$/.exec(request.headers.authorization ?? '') ?? [];
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
    if (scheme === 'DPoP' || token.cnf?.jkt) {
      const problem = await proofProblem({ request, presented, token, origin, nonce, proofs });
      if (problem === 'use_dpop_nonce') stats.nonces_asked += 1;
      else if (problem) stats.refused += 1;
      if (problem) return refuse(request, response, `, error="${problem}"`, 'DPoP', nonce ? { 'dpop-nonce': nonce } : {});
      stats.with_proof += 1;
    }
    const problem = certificateProblem(request, token);
    if (problem) {
      stats.unbound += 1;
      return refuse(request, response, `, error="${problem}"`);
    }
    const id = request.headers['idempotency-key'];
    if (request.method === 'POST' && id) {
      if (applied.has(id)) stats.duplicate_posts += 1;
      applied.add(id);
    }
    return route(request, response, token, held);
  };

  const listener = (request, response) => {
    serve(request, response).catch((error) => {
      // A transfer that the caller broke off is no failure of ours; anything else must not pass unnoticed.
      if (!['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes(error.code)) process.stderr.write(`${error.stack}\n`);
      response.destroy();
    });
  };
  const server = tls ? createTlsServer({ ...tls, ...REQUEST_CERTIFICATE }, listener) : createServer(listener);
  server.requestTimeout = 0;
  server.keepAliveTimeout = 120_000;
  server.listen(0, '127.0.0.1', 4096);
  await once(server, 'listening');
  const { port } = server.address();
  origin = tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`;
  return {
    port,
    /** From now on proofs need another nonce. */
    newNonce() {
      nonce = randomBytes(12).toString('base64url');
    },
    stats: () => ({ ...stats, tokens: [...seen], held: held.size }),
    release() {
      for (const release of held) release();
      held.clear();
    },
  };
}
