// GitHub as `emulate` plays it: stateful, so that paging, `since` and edits can be tested end to end.
//
// Started as: PEER_TOKEN=… node emulate.mjs [--issues 250] [--pulls 120]
// Prints {"port":…,"repository":"acme/widgets","issues":250,"pulls":120} when ready; stops on SIGTERM or when stdin
// closes.
//
// Quirks that a connector or a test has to know:
// - Any non-empty token is accepted as the first seeded user. So that user is a stranger here, the repository is
//   private, and only the seeded token can read it: without a token 401, with another one 403.
// - `since` is compared as text with an `updated_at` that has milliseconds: a cursor has to be sent back as it was
//   received. Cut to seconds, "…05Z" is *later* than "…05.123Z" and loses what changed in that second.
// - `since` is inclusive, as GitHub's is, and issues seeded in one millisecond share their `updated_at`.
// - /issues never holds pull requests (GitHub's does, marked `pull_request`), though both take their numbers from one
//   sequence. /pulls knows no `since`, as GitHub's.
// - An unknown `state`, `sort` or `per_page` falls back to the default instead of failing.
// - Link headers repeat the request's own Host; there is no ETag.

import http from 'node:http';
import { parseArgs } from 'node:util';
import { createEmulator } from 'emulate';
import { run } from './child.mjs';

const OWNER = 'acme';
const REPOSITORY = 'widgets';

const { values } = parseArgs({
  options: { issues: { type: 'string', default: '250' }, pulls: { type: 'string', default: '120' } },
});
const token = process.env.PEER_TOKEN;
if (!token) throw new Error('PEER_TOKEN is not set');

const front = http.createServer();
await new Promise((resolve, reject) => {
  front.once('error', reject).listen(0, '127.0.0.1', resolve);
});
const { port } = front.address();
const inner = await withoutListening(() =>
  createEmulator({
    service: 'github',
    port,
    seed: {
      tokens: { [token]: { login: OWNER, scopes: ['repo', 'user'] } },
      github: {
        users: [
          { login: 'stranger', name: 'Whoever an unknown token is' },
          { login: OWNER, name: 'Acme', email: 'acme@example.com' },
        ],
        repos: [{ owner: OWNER, name: REPOSITORY, private: true, auto_init: true }],
      },
    },
  }),
);
front.on('request', (request, response) => inner.emit('request', request, response));

const issues = Number(values.issues);
const pulls = Number(values.pulls);
for (let n = 1; n <= issues; n += 1) {
  await post('issues', { title: `Issue ${n}`, body: `Widget ${n} squeaks` });
}
for (let n = 1; n <= pulls; n += 1) {
  await post('pulls', { title: `Oil widget ${n}`, head: `oil-${n}`, base: 'main' });
}
run({ port, repository: `${OWNER}/${REPOSITORY}`, issues, pulls });

/**
 * Runs `start`, which opens an HTTP server on every address, and returns that server unopened: `emulate` has no option
 * for the address, and a peer must be reachable from loopback only.
 */
async function withoutListening(start) {
  const listen = http.Server.prototype.listen;
  let server;
  http.Server.prototype.listen = function keep() {
    server = this;
    return this;
  };
  try {
    await start();
  } finally {
    http.Server.prototype.listen = listen;
  }
  if (!server) throw new Error('emulate opened no HTTP server');
  return server;
}

async function post(collection, body) {
  const response = await fetch(`http://127.0.0.1:${port}/repos/${OWNER}/${REPOSITORY}/${collection}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (response.status !== 201) {
    throw new Error(`seeding ${collection}: ${response.status} ${await response.text()}`);
  }
  await response.arrayBuffer();
}
