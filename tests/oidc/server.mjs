// One process with the issuer, the resource server and a control channel for the test that started it.
//
//   node server.mjs '{"clients":[{"client_id":"a","client_secret":"b","authentication":"client_secret_post",
//                     "lifetime":60}],"resources":["urn:orders"]}'
//
// prints one line of JSON with the three ports when all is up, and exits when its standard input closes.
// With `"tls":{"key":…,"cert":…,"ca":…}` both speak TLS and ask for a client certificate; with `"dpop_nonces":true`
// both demand nonces of their own in DPoP proofs.
// The control channel: GET /_stats, /_tokens, /_requests; POST /_revoke_all, /_pause, /_resume, /_release, /_new_nonce, /_token_answer.

import { createServer } from 'node:http';
import { once } from 'node:events';

import { startIssuer } from './issuer.mjs';
import { startResourceServer } from './resource.mjs';

process.stdin.on('end', () => process.exit(0));
process.stdin.on('error', () => process.exit(0));
process.stdin.resume();

const settings = JSON.parse(process.argv[2] ?? '{}');
const issuer = await startIssuer(settings);
const resource = await startResourceServer(issuer.introspection, settings);

const actions = {
  'GET /_stats': () => ({ issuer: issuer.stats, resource: resource.stats() }),
  'GET /_tokens': () => issuer.tokens(),
  'GET /_requests': () => issuer.requests,
  'POST /_revoke_all': () => ({ revoked: issuer.revokeAll() }),
  'POST /_pause': () => issuer.pause(),
  'POST /_resume': () => issuer.resume(),
  'POST /_release': () => resource.release(),
  'POST /_new_nonce': () => resource.newNonce(),
  'POST /_token_answer': (body) => issuer.answer(JSON.parse(body)),
};

const control = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const action = actions[`${request.method} ${request.url}`];
  try {
    const result = action ? await action(Buffer.concat(chunks).toString()) : undefined;
    response.writeHead(action ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(result ?? null));
  } catch (error) {
    response.writeHead(500);
    response.end(error.message);
  }
});
control.listen(0, '127.0.0.1');
await once(control, 'listening');

const ports = { issuer: issuer.port, resource: resource.port, control: control.address().port };
process.stdout.write(`${JSON.stringify(ports)}\n`);
