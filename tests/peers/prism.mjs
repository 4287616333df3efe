// GitHub as Stoplight Prism plays it from GitHub's own OpenAPI description: stateless, but it judges every request.
//
// Started as: node prism.mjs
// Prints {"port":…} when ready, after five to ten seconds; stops on SIGTERM or when stdin closes.
//
// The command `prism mock` runs in this process, since one of its own would outlive its parent. Requests are judged, as
// that command always does. One edit to the description, towards the real GitHub: it declares no security, so here it
// demands a bearer token, and a request without one is a 401 (any token will do).
//
// Quirks that a connector or a test has to know:
// - It has one example for each answer: each list holds one item, whatever the query, and its Link header promises a
//   next page for ever, at https://api.github.com/resource?page=2. A reader has to notice that it learns nothing new.
// - A query that breaks the description is a 422 with the reasons in the header `sl-violations`.
// - `Accept: application/vnd.github+json` alone is a 406, because the description offers `application/json` only.
//   "application/vnd.github+json, application/json" and "*/*" both work.
// - GitHub's own example of a pull request breaks GitHub's schema, so answers must not be judged (`errors: false`).

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { run } from './child.mjs';

const require = createRequire(import.meta.url);

const description = JSON.parse(readFileSync(require.resolve('@octokit/openapi/generated/api.github.com.json'), 'utf8'));
description.components.securitySchemes = { bearer: { type: 'http', scheme: 'bearer' } };
description.security = [{ bearer: [] }];
const folder = mkdtempSync(join(tmpdir(), 'bulkhead-prism-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, 'api.github.com.json');
writeFileSync(file, JSON.stringify(description));

const port = await freePort();
// What the command says is for people; stdout is for the one line that a test waits for.
const { write } = process.stdout;
process.stdout.write = process.stderr.write.bind(process.stderr);
process.argv = [process.argv[0], 'prism', 'mock', '--host', '127.0.0.1', '--port', String(port), '--verboseLevel', 'silent', file];
require('@stoplight/prism-cli');
while (!(await accepts(port))) await setTimeout(100);
process.stdout.write = write;
run({ port });

/** A port of 127.0.0.1 that nothing listens on. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Whether something listens on the port. */
function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const end = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true)).once('error', () => end(false));
  });
}
