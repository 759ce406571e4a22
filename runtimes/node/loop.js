'use strict';
// The life of a function from nodejs24.x on: promises only. What the function does not catch ends the process in
// Node's own way, and the platform reports that.

const errors = require('./errors.js');
const { fillContext } = require('./context.js');
const { forgetInvocation, logError, setInvocation } = require('./log.js');
const { PROTECTED_KEYS, invokeStore } = require('./invoke-store.js');

const CALLBACK_ERROR =
  'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this function to use a supported handler signature to use Node.js 24 or later. For more information see https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.';

async function run(api, load, handlerMetadata, takeSnapshot) {
  let runtime;
  try {
    const handler = await load();
    const metadata = handlerMetadata(handler);
    if (metadata.argsNum >= 3 && !metadata.streaming) throw new errors.CallbackHandlerDeprecated(CALLBACK_ERROR);
    runtime = new Runtime(api, handler, metadata);
    takeSnapshot(api, runtime.processor, metadata.streaming, () => forgetInvocation('-'));
  } catch (err) {
    logError('Init Error', err);
    const response = errors.toResponse(err);
    await new Promise((resolve) => api.postInitError(errors.stringify(response), response.errorType, resolve));
    throw err;
  }
  await runtime.start();
}

class Runtime {
  constructor(api, handler, metadata) {
    this.api = api;
    this.processor = metadata.streaming
      ? new StreamingInvokeProcessor(api, handler, metadata.highWaterMark)
      : new BufferedInvokeProcessor(api, handler);
  }

  async start() {
    for (;;) {
      const { headers, body } = await this.next();
      const context = fillContext({}, headers, true);
      const id = context.awsRequestId;
      setInvocation(id, context.tenantId);
      const event = JSON.parse(body);
      const ids = { [PROTECTED_KEYS.REQUEST_ID]: id, [PROTECTED_KEYS.X_RAY_TRACE_ID]: context.xRayTraceId };
      if (context.tenantId) ids[PROTECTED_KEYS.TENANT_ID] = context.tenantId;
      await invokeStore.run(ids, () => this.processor.processInvoke(context, event, id));
    }
  }

  next() {
    return new Promise((resolve, reject) => {
      this.api.next((err, headers, body) => (err ? reject(err) : resolve({ headers, body })));
    });
  }
}

// The names of classes and methods are those of AWS's client: they are in the stack traces of functions.

class BufferedInvokeProcessor {
  constructor(api, handler) {
    this.api = api;
    this.handler = handler;
  }

  async processInvoke(context, event, id) {
    try {
      const result = await this.handler(event, context);
      // Gives callbacks that are due a chance to run within this invocation.
      await turn();
      const body = errors.stringify(result);
      await new Promise((resolve) => this.api.postResponse(id, body, resolve));
    } catch (err) {
      await turn();
      logError('Invoke Error', err);
      const body = errors.stringify(errors.toResponse(err));
      await new Promise((resolve) => this.api.postError(id, body, errors.toXRayCause(err), resolve));
    }
  }
}

class StreamingInvokeProcessor {
  constructor(api, handler, highWaterMark) {
    this.api = api;
    this.handler = handler;
    this.highWaterMark = highWaterMark;
  }

  async processInvoke(context, event, id) {
    const { openResponseStream } = require('./streaming.js');
    const { stream, answered, fail } = openResponseStream(this.api, id, this.highWaterMark);
    try {
      const result = this.handler(event, stream, context);
      if (typeof result?.then !== 'function') throw new Error('Streaming does not support non-async handlers.');
      if ((await result) !== undefined) console.warn('Streaming handlers ignore return values.');
      await answered;
      if (!stream.writableFinished) throw new Error('Response stream is not finished.');
    } catch (err) {
      await turn();
      logError('Invoke Error', err);
      await fail(err);
    }
  }
}

function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

module.exports = { run };
