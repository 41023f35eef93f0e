// The issuer: a certified OAuth server (oidc-provider) with the client_credentials grant, opaque access tokens,
// resource indicators, DPoP, mutual TLS, assertions of every kind, introspection and revocation. It listens twice: on a public port that can be taken down
// and brought back, and on an inner port that stays up for the resource server's introspection.

import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createPublicKey, randomBytes } from 'node:crypto';
import Provider, { errors } from 'oidc-provider';

const SCOPES = ['orders.read', 'orders.write'];

/** The client as which the resource server asks whether a token is active. */
export const INSPECTOR = { client_id: 'inspector', client_secret: 'inspector-of-tokens-0123456789abcdef' };

/** Ask for a client certificate; what one that is not trusted means is the server's to decide. */
export const REQUEST_CERTIFICATE = { requestCert: true, rejectUnauthorized: false };

/** What oidc-provider stores, in memory, so that every live token can be listed and revoked at once. */
class Store {
  static models = new Map();

  constructor(model) {
    this.items = new Map();
    Store.models.set(model, this.items);
  }

  async upsert(id, payload) {
    this.items.set(id, payload);
  }

  async find(id) {
    return this.items.get(id);
  }

  async destroy(id) {
    this.items.delete(id);
  }

  async consume(id) {
    this.items.get(id).consumed = Math.floor(Date.now() / 1000);
  }

  async findByUid() {}

  async findByUserCode() {}

  async revokeByGrantId() {}
}

/** The client certificate of the TLS connection that a request came over. */
export function clientCertificate(request) {
  const certificate = request.socket.getPeerX509Certificate?.();
  return certificate && { pem: certificate.toString(), subject: certificate.subject, sha256: certificate.fingerprint256 };
}

function configuration({ clients, resources, dpop_nonces: nonces }) {
  const lifetimes = new Map(clients.map((client) => [client.client_id, client.lifetime ?? 600]));
  const keys = (pem) => ({ jwks: { keys: [{ ...createPublicKey(pem).export({ format: 'jwk' }), use: 'sig' }] } });
  const registered = [...clients, INSPECTOR].map(({ client_id, client_secret, authentication, public_key, metadata }) => ({
    client_id,
    client_secret,
    ...(public_key ? keys(public_key) : {}),
    ...metadata,
    token_endpoint_auth_method: authentication ?? 'client_secret_basic',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope: SCOPES.join(' '),
  }));
  return {
    adapter: Store,
    clients: registered,
    clientAuthMethods: [
      'client_secret_basic',
      'client_secret_post',
      'client_secret_jwt',
      'private_key_jwt',
      'tls_client_auth',
      'none',
    ],
    // The default is a good list; stated here so that every algorithm the tests sign with is in it.
    enabledJWA: {
      clientAuthSigningAlgValues: [
        ...['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
        ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
      ],
    },
    scopes: SCOPES,
    ttl: { ClientCredentials: (_context, _token, client) => lifetimes.get(client.clientId) },
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (_context, client) => client.clientId === INSPECTOR.client_id },
      revocation: { enabled: true },
      devInteractions: { enabled: false },
      dPoP: { enabled: true, nonceSecret: nonces ? randomBytes(32) : undefined, requireNonce: () => nonces === true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        tlsClientAuth: true,
        getCertificate: (context) => clientCertificate(context.req)?.pem,
        certificateAuthorized: (context) => context.req.socket.authorized === true,
        certificateSubjectMatches: (context, property, expected) =>
          property === 'tls_client_auth_subject_dn' && clientCertificate(context.req).subject === expected,
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_context, resource) => {
          if (!resources.includes(resource)) throw new errors.InvalidTarget();
          return { scope: SCOPES.join(' '), accessTokenFormat: 'opaque' };
        },
      },
    },
  };
}

/** Ports below the ephemeral range: no outgoing connection can take one while the issuer is down. */
function randomPort() {
  return 10000 + Math.floor(Math.random() * 20000);
}

function listen(server, port) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject);
      resolve(server.address().port);
    });
  });
}

async function listenSomewhere(server) {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    try {
      return await listen(server, randomPort());
    } catch (error) {
      if (error.code !== 'EADDRINUSE') throw error;
    }
  }
  throw new Error('no free port');
}

/** Starts the issuer; what it returns is the handle that the control channel works with. */
export async function startIssuer({ clients = [], resources = [], dpop_nonces, tls }) {
  const stats = { token_requests: 0, token_answers: {} };
  const requests = [];
  let override;
  let provider;

  const serve = (request, response) => provider(request, response);
  const serveInPublic = (request, response) => {
    if (new URL(request.url, 'http://issuer').pathname !== '/token') return serve(request, response);
    stats.token_requests += 1;
    requests.push(recorded(request));
    response.on('finish', () => {
      stats.token_answers[response.statusCode] = (stats.token_answers[response.statusCode] ?? 0) + 1;
    });
    if (!override) return serve(request, response);
    return answerInstead(override, request, response);
  };

  const inner = createServer(serve);
  const open = tls ? createTlsServer({ ...tls, ...REQUEST_CERTIFICATE }, serveInPublic) : createServer(serveInPublic);
  const innerPort = await listen(inner, 0);
  const port = await listenSomewhere(open);
  const origin = tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`;
  const app = new Provider(origin, configuration({ clients, resources, dpop_nonces }));
  provider = app.callback();

  const tokens = () => Store.models.get('ClientCredentials') ?? new Map();
  return {
    port,
    introspection: `http://127.0.0.1:${innerPort}/token/introspection`,
    stats,
    /** The requests to `/token` as they came: `{headers, body}`. */
    requests,
    tokens: () => [...tokens().keys()],
    revokeAll() {
      const count = tokens().size;
      tokens().clear();
      return count;
    },
    /** Nobody answers on the public port any more and every connection is cut, as if the process had been killed. */
    pause() {
      return new Promise((resolve) => {
        if (!open.listening) return resolve();
        open.close(resolve);
        open.closeAllConnections();
      });
    },
    async resume() {
      if (!open.listening) await listen(open, port);
    },
    /** From now on `/token` answers this instead: `{status, headers, body}`; `null` ends it. */
    answer(instead) {
      override = instead ?? undefined;
    },
  };
}

/** What a request carries, its body copied as it arrives so that whoever serves it still reads it. */
function recorded(request) {
  const record = { headers: request.headers, body: '' };
  const push = request.push.bind(request);
  request.push = (chunk, ...rest) => {
    if (chunk) record.body += chunk.toString();
    return push(chunk, ...rest);
  };
  return record;
}

/** A misbehaving token endpoint. `{{authorization}}` and `{{body}}` in the text stand for what the client sent. */
async function answerInstead({ status, headers, body = '' }, request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = body
    .replaceAll('{{authorization}}', request.headers.authorization ?? '')
    .replaceAll('{{body}}', Buffer.concat(chunks).toString());
  response.writeHead(status, headers);
  response.end(text);
}
