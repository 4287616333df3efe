// GitHub as Stoplight Prism plays it from GitHub's own OpenAPI description: stateless, but it judges every request.
//
// Started as: node prism.mjs
// Prints {"port":…} when ready, after five to ten seconds; stops on SIGTERM or when stdin closes.
//
// The server and its settings are those of `prism mock`; that command would outlive its parent. One edit to the
// description, towards the real GitHub: it declares no security, so here it demands a bearer token, and a request
// without one is a 401 (any token will do).
//
// Quirks that a connector or a test has to know:
// - It has one example for each answer: each list holds one item, whatever the query, and its Link header promises a
//   next page for ever, at https://api.github.com/resource?page=2. A reader has to notice that it learns nothing new.
// - A query that breaks the description is a 422 with the reasons in the header `sl-violations`.
// - `Accept: application/vnd.github+json` alone is a 406, because the description offers `application/json` only.
//   "application/vnd.github+json, application/json" and "*/*" both work.
// - GitHub's own example of a pull request breaks GitHub's schema, so answers must not be judged (`errors: false`).

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { run } from './child.mjs';

const require = createRequire(import.meta.url);
const { createLogger } = require('@stoplight/prism-core');
const { getHttpOperationsFromSpec } = require('@stoplight/prism-http');
const { createServer } = require('@stoplight/prism-http-server');

const path = require.resolve('@octokit/openapi/generated/api.github.com.json');
const description = JSON.parse(await readFile(path, 'utf8'));
description.components.securitySchemes = { bearer: { type: 'http', scheme: 'bearer' } };
description.security = [{ bearer: [] }];

const operations = await getHttpOperationsFromSpec(description);
const prism = createServer(operations, {
  cors: false,
  components: { logger: createLogger('prism', { level: 'silent' }) },
  config: {
    isProxy: false,
    validateRequest: true,
    validateResponse: true,
    checkSecurity: true,
    errors: false,
    upstreamProxy: undefined,
    mock: { dynamic: false, ignoreExamples: false },
  },
});
const address = await prism.listen(0, '127.0.0.1');
run({ port: Number(new URL(address).port) });
