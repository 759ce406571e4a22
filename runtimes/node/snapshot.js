'use strict';
// An environment that becomes a snapshot, between init and its first event: the client's own code is run warm, then the
// function's priming events, then the hooks. The process is frozen while it waits for the answer to `restore/next`, and
// every environment made from the snapshot goes on from there.
//
// To the loop that serves events nothing of this is visible: it asks for the next event and gets one.

const errors = require('./errors.js');
const random = require('./random.js');
const { logError } = require('./log.js');
const { registered } = require('./@firn/snapshot.js');

// Enough for V8 to compile the client's code and to learn the types that it sees.
const WARM_ROUNDS = 50;
const BEFORE_FAILED_EXIT = 64;
const AFTER_FAILED_EXIT = 65;

/** Puts the snapshot in front of the first event. `target.handler` is what the loop calls for an event; `forget` makes
 * it forget the last invocation. */
function takeSnapshot(api, target, streaming, forget) {
  const { handler } = target;
  let rounds = streaming ? 0 : WARM_ROUNDS;

  const prime = (callback) => {
    api.get('/firn/priming/next', deliver(callback, () => freeze(api, forget, callback)));
  };
  const stopWarming = () => {
    target.handler = handler;
    delete api.postResponse;
    api.next = prime;
  };
  const warm = (callback) => {
    if (rounds-- > 0) {
      api.get('/firn/warm', deliver(callback, () => (stopWarming(), prime(callback))));
    } else {
      stopWarming();
      prime(callback);
    }
  };
  // These events are not for the function to see, and their answers are nobody's.
  target.handler = streaming ? handler : async (event) => event;
  api.postResponse = (_id, body, callback) => api.post('/firn/warm', '', body, callback);
  api.next = warm;
}

/** Hands an event on; `otherwise` if there is none, or the server does not know of such events. */
function deliver(callback, otherwise) {
  return (err, status, headers, body) => {
    if (!err && status !== 200) otherwise();
    else callback(err, headers, body);
  };
}

async function freeze(api, forget, callback) {
  forget();
  try {
    // The last registered is the first to run.
    while (registered.before.length > 0) await registered.before.pop()();
    // Run once ahead, so that it is compiled in the snapshot. Garbage is not collected: that makes the snapshot smaller,
    // but what each environment writes larger.
    random.prepare();
    random.renew();
    random.prepare();
    await restored(api);
  } catch (err) {
    return fail(err, BEFORE_FAILED_EXIT, (body, exit) => api.postInitError(body, 'Runtime.BeforeSnapshotError', exit));
  }
  try {
    random.renew();
    for (const hook of registered.after) await hook();
  } catch (err) {
    return fail(err, AFTER_FAILED_EXIT, (body, exit) => api.postRestoreError(body, 'Runtime.AfterRestoreError', exit));
  }
  // What this object was given hides the client's own.
  delete api.next;
  api.next(callback);
}

/** Settles in each environment that is made from the snapshot. */
function restored(api) {
  return new Promise((resolve, reject) => {
    api.restoreNext((err, status) => {
      if (!err && status !== 200) err = new errors.PlatformError(`Failed to get restore/next, error ${status}`);
      if (err) reject(err);
      else resolve();
    });
  });
}

function fail(err, exitCode, post) {
  logError('Init Error', err);
  post(errors.stringify(errors.toResponse(err)), () => process.exit(exitCode));
}

module.exports = { takeSnapshot };
