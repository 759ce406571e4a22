'use strict';
// An environment that becomes a snapshot, between init and its first event: the client's own code is run warm, then the
// function's priming events, then the hooks. The process is frozen while it waits for the answer to `restore/next`, and
// every environment made from the snapshot goes on from there. Where there is no hook to run after the restore, it is
// frozen while it waits for an event, which saves every environment an exchange.
//
// To the loop that serves events nothing of this is visible: it asks for the next event and gets one.

const { setTimeout } = require('timers');
const v8 = require('v8');
const errors = require('./errors.js');
const random = require('./random.js');
const { logError } = require('./log.js');
const { registered } = require('./@firn/snapshot.js');

// Enough for V8 to compile the client's code and to learn the types that it sees.
const WARM_ROUNDS = 50;
// V8's compiler threads are done with what the warm rounds gave them within this time.
const COMPILED_MS = 20;
const BEFORE_FAILED_EXIT = 64;
const AFTER_FAILED_EXIT = 65;

/** Whether code is compiled as it is loaded, and kept. Else V8 compiles a function when it is first called, which
 * every environment would do for what only an event calls, and forgets it when it is not called for a while. */
function compileAhead(ahead) {
  for (const flag of ['lazy', 'flush-bytecode']) v8.setFlagsFromString(`--${ahead ? 'no-' : ''}${flag}`);
}

/** Puts the snapshot in front of the first event. `target.handler` is what the loop calls for an event; `forget` makes
 * it forget the last invocation. */
function takeSnapshot(api, target, streaming, forget) {
  const { handler } = target;
  const { next, nextRequest, responsePath } = api;
  let rounds = streaming ? 0 : WARM_ROUNDS;

  const prime = (callback) => {
    api.get('/firn/priming/next', (err, status, headers, body) => {
      // None is left, or the server does not know of such events.
      if (err || status === 200) return callback(err, headers, body);
      api.next = next;
      freeze(api, forget, callback);
    });
  };
  const stopWarming = (callback) => {
    target.handler = handler;
    Object.assign(api, { next: prime, nextRequest, responsePath });
    prime(callback);
  };
  const warm = (callback) => {
    if (rounds-- === 0) stopWarming(callback);
    else next.call(api, (err, ...event) => (err ? stopWarming(callback) : callback(null, ...event)));
  };
  // These events are not for the function to see, and their answers are nobody's.
  target.handler = streaming ? handler : async (event) => event;
  api.nextRequest = api.getRequest('/firn/warm');
  api.responsePath = () => '/firn/warm';
  api.next = warm;
}

/** Calls back with the first event, in every environment that is made from the snapshot. */
async function freeze(api, forget, callback) {
  forget();
  const hooks = registered.after;
  let restored = false;
  try {
    // The last registered is the first to run.
    while (registered.before.length > 0) await registered.before.pop()();
    // Garbage is not collected: that makes the snapshot smaller, but what each environment writes larger.
    const request = hooks.length > 0 ? api.getRequest('/restore/next') : api.nextRequest;
    await rehearse(api);
    compileAhead(false);
    const event = await comeBack(api, request);
    restored = true;
    if (hooks.length === 0) return callback(null, event.headers, event.body);
    for (const hook of hooks) await hook();
  } catch (err) {
    if (restored) {
      return fail(err, AFTER_FAILED_EXIT, (body, exit) => api.postRestoreError(body, 'Runtime.AfterRestoreError', exit));
    }
    return fail(err, BEFORE_FAILED_EXIT, (body, exit) => api.postInitError(body, 'Runtime.BeforeSnapshotError', exit));
  }
  api.next(callback);
}

/** Goes the way that every environment goes between its restore and its first event, so that it is compiled in the
 * snapshot. */
async function rehearse(api) {
  const request = api.getRequest('/firn/warm');
  try {
    for (let round = 0; round < WARM_ROUNDS; round++) await comeBack(api, request);
    // What has been compiled beside the main thread is put in place by the next function that it runs: here once, not in
    // the first event of every environment.
    await new Promise((resolve) => setTimeout(resolve, COMPILED_MS));
    await comeBack(api, request);
  } catch (err) {
    // The server does not know of it.
    if (!(err instanceof errors.PlatformError)) throw err;
  }
}

/** The request is answered in each environment that is made from the snapshot. */
function comeBack(api, request) {
  random.prepare();
  return new Promise((resolve, reject) => {
    const answered = (err, status, headers, body) => {
      if (!err && status !== 200) err = new errors.PlatformError(`Failed to come back from a snapshot, error ${status}`);
      if (err) return reject(err);
      random.renew();
      resolve({ headers, body });
    };
    api.send(request, answered, true);
  });
}

function fail(err, exitCode, post) {
  logError('Init Error', err);
  post(errors.stringify(errors.toResponse(err)), () => process.exit(exitCode));
}

module.exports = { compileAhead, takeSnapshot };
