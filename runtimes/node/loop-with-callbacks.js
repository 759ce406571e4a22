'use strict';
// The life of a function up to nodejs22.x: promises, callbacks and context.done(), and what happens when the event
// loop runs empty.

const errors = require('./errors.js');
const { fillContext } = require('./context.js');
const { forgetInvocation, logError, setInvocation } = require('./log.js');

const UNCAUGHT_EXIT = 129;
const UNHANDLED_EXIT = 128;

// What to do when the event loop is empty. A property of the global object on AWS, so also here.
const BEFORE_EXIT = Symbol.for('aws.lambda.beforeExit');
const beforeExit = {
  set: (listener) => (global[BEFORE_EXIT] = listener),
  reset: () => (global[BEFORE_EXIT] = () => {}),
};

async function run(api, load, handlerMetadata, takeSnapshot) {
  // The invocation that an error outside of the handler's own flow belongs to.
  let current = null;
  const onFatal = (error, exitCode) => {
    const exit = () => process.exit(exitCode);
    const response = errors.toResponse(error);
    const body = errors.stringify(response);
    if (current === null) {
      api.postInitError(body, response.errorType, exit);
    } else {
      api.postError(current, body, errors.toXRayCause(error), exit);
    }
  };
  process.on('uncaughtException', (error) => {
    logError('Uncaught Exception', error);
    onFatal(error, UNCAUGHT_EXIT);
  });
  process.on('unhandledRejection', (reason, promise) => {
    const error = errors.unhandledRejection(reason, promise);
    logError('Unhandled Promise Rejection', error);
    onFatal(error, UNHANDLED_EXIT);
  });
  beforeExit.reset();
  process.on('beforeExit', () => global[BEFORE_EXIT]());

  let handler, metadata;
  try {
    handler = await load();
    metadata = handlerMetadata(handler);
  } catch (err) {
    // Out of this promise, so that it counts as an exception.
    setImmediate(() => {
      throw err;
    });
    return;
  }
  const runtime = new Runtime(api, handler, metadata, (id) => (current = id));
  takeSnapshot(api, runtime, metadata.streaming, () => {
    current = null;
    beforeExit.reset();
    forgetInvocation(undefined);
  });
  runtime.next();
}

class Runtime {
  constructor(api, handler, metadata, setCurrent) {
    this.api = api;
    this.handler = handler;
    this.metadata = metadata;
    this.setCurrent = setCurrent;
    this.handle = metadata.streaming ? this.handleOnceStreaming : this.handleOnceNonStreaming;
    this.next = this.next.bind(this);
  }

  next() {
    // Not awaited, so that stack traces end with the handler's caller.
    this.handle().catch((err) => {
      // The handler's errors do not come here: this is the platform's trouble.
      console.log(`Unexpected Top Level Error: ${err.toString()}`);
      throw err;
    });
  }

  async receive() {
    const event = await new Promise((resolve, reject) => {
      this.api.next((err, headers, body) => (err ? reject(err) : resolve({ headers, body })));
    });
    const id = event.headers['lambda-runtime-aws-request-id'];
    setInvocation(id, event.headers['lambda-runtime-aws-tenant-id']);
    this.setCurrent(id);
    return { id, ...event };
  }

  async handleOnceNonStreaming() {
    const { id, headers, body } = await this.receive();
    const completion = new Completion(this.api, id, this.next);
    const { context, callback } = completion;
    beforeExit.set(() => completion.respond(null));
    try {
      const result = this.handler(JSON.parse(body), fillContext(context, headers, false), callback);
      if (result && typeof result.then === 'function') {
        result.then(context.succeed, context.fail).catch(context.fail);
      }
    } catch (err) {
      callback(err);
    }
  }

  async handleOnceStreaming() {
    const { id, headers, body } = await this.receive();
    const { openResponseStream } = require('./streaming.js');
    const { stream, answered, fail } = openResponseStream(this.api, id, this.metadata.highWaterMark);
    const context = waitingContext();
    const scheduleNext = () => {
      beforeExit.reset();
      if (context.callbackWaitsForEmptyEventLoop) {
        beforeExit.set(() => setImmediate(this.next));
      } else {
        setImmediate(this.next);
      }
    };
    beforeExit.set(() => setImmediate(this.next));
    try {
      fillContext(context, headers, false);
      const result = this.handler(JSON.parse(body), stream, context);
      if (!result || typeof result.then !== 'function') throw 'Streaming does not support non-async handlers.';
      if ((await result) !== undefined) console.warn('Streaming handlers ignore return values.');
      await answered;
      if (!stream.writableFinished) throw 'Response stream is not finished.';
    } catch (err) {
      logError('Invoke Error', err);
      await fail(err);
    }
    scheduleNext();
  }
}

function waitingContext() {
  let waits = true;
  return {
    get callbackWaitsForEmptyEventLoop() {
      return waits;
    },
    set callbackWaitsForEmptyEventLoop(value) {
      waits = value;
    },
  };
}

/** The ways in which an invocation ends, of which the first counts. */
class Completion {
  constructor(api, id, next) {
    this.api = api;
    this.id = id;
    this.next = () => setImmediate(next);
    this.responded = false;
    this.finished = false;
    this.context = waitingContext();
    const done = (err, result) => this.done(err, result);
    this.context.succeed = this.first((result) => done(null, result));
    this.context.fail = this.first((err) => (err === undefined || err === null ? done('handled') : done(err, null)));
    this.context.done = this.first(done);
    this.callback = this.first((err, result) => this.called(err, result));
  }

  /** Runs `fn` unless one of its siblings has run. What throws has not run. */
  first(fn) {
    return (...args) => {
      if (this.finished) return;
      fn(...args);
      this.finished = true;
    };
  }

  called(err, result) {
    beforeExit.reset();
    if (err !== undefined && err !== null) {
      this.postError(err);
    } else if (this.context.callbackWaitsForEmptyEventLoop) {
      beforeExit.set(() => setImmediate(() => this.complete(result)));
    } else {
      this.complete(result);
    }
  }

  done(err, result) {
    beforeExit.reset();
    if (err !== undefined && err !== null) {
      this.postError(err);
    } else {
      this.complete(result);
    }
  }

  complete(result) {
    if (this.responded) {
      console.error(
        'Invocation has already been reported as done. Cannot call complete more than once per invocation.',
      );
      return;
    }
    this.respond(result);
  }

  respond(result) {
    this.responded = true;
    this.api.postResponse(this.id, errors.stringify(result), this.next);
  }

  postError(err) {
    logError('Invoke Error', err);
    this.api.postError(this.id, errors.stringify(errors.toResponse(err)), errors.toXRayCause(err), this.next);
  }
}

module.exports = { run };
