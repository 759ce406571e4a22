'use strict';
// The entry point of a managed Node.js function: firn's client of the Lambda Runtime API for Node 16 and newer.
//
// Behaves as AWS's clients do: as aws-lambda-ric 3 for runtimes up to nodejs22.x, and as aws-lambda-ric 4, which knows
// no callbacks any more, from nodejs24.x on. The runtime that the function is configured for decides, not the version
// of the Node that happens to run it.

const { RuntimeApi } = require('./api.js');
const log = require('./log.js');
const errors = require('./errors.js');
const { loadHandler, handlerMetadata } = require('./loader.js');
require('./@firn/snapshot.js');

const configured = /nodejs(\d+)/.exec(process.env.AWS_EXECUTION_ENV || '');
const modern = configured !== null && Number(configured[1]) >= 24;

errors.setModern(modern);
log.patchConsole(modern);

const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
const snapStart = process.env.AWS_LAMBDA_INITIALIZATION_TYPE === 'snap-start';
// Before the function: what it keeps of Math must be good in every environment.
const snapshot = snapStart ? require('./snapshot.js') : { compileAhead() {}, takeSnapshot() {} };
snapshot.compileAhead(true);
const load = () => loadHandler(process.env.LAMBDA_TASK_ROOT || process.cwd(), process.env._HANDLER, modern);

if (modern) {
  require('./loop.js').run(api, load, handlerMetadata, snapshot.takeSnapshot);
} else {
  require('./loop-with-callbacks.js').run(api, load, handlerMetadata, snapshot.takeSnapshot);
}
