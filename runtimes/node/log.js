'use strict';
// console.* as Lambda has it: one line per call with time, request id and level, as text or JSON, to standard output or
// in frames to the descriptor that `_LAMBDA_TELEMETRY_LOG_FD` names.

const { writeSync } = require('fs');
const { format } = require('util');
const errors = require('./errors.js');

const LEVELS = {
  TRACE: { name: 'TRACE', priority: 1, mask: 4 },
  DEBUG: { name: 'DEBUG', priority: 2, mask: 8 },
  INFO: { name: 'INFO', priority: 3, mask: 12 },
  WARN: { name: 'WARN', priority: 4, mask: 16 },
  ERROR: { name: 'ERROR', priority: 5, mask: 20 },
  FATAL: { name: 'FATAL', priority: 6, mask: 24 },
};
const TEXT_FRAME = 0xa55a0003;
const JSON_FRAME = 0xa55a0002;
const FRAME_HEAD_BYTES = 16;

// Libraries read these.
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId');
const TENANT_ID = Symbol.for('aws.lambda.runtime.tenantId');

let logAnError;

function setInvocation(requestId, tenantId) {
  global[REQUEST_ID] = requestId;
  global[TENANT_ID] = tenantId;
}

/** Leaves no trace of the last invocation; `requestId` is what log lines show between init and the first. */
function forgetInvocation(requestId) {
  setInvocation(requestId, undefined);
  delete process.env._X_AMZN_TRACE_ID;
}

function patchConsole(modern) {
  const env = process.env;
  const json = env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON';
  const least = LEVELS[env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()] ?? LEVELS.TRACE;
  const fd = env._LAMBDA_TELEMETRY_LOG_FD;
  delete env._LAMBDA_TELEMETRY_LOG_FD;
  if (modern) global[REQUEST_ID] = '-';

  const write = fd === undefined ? writeLine : frameWriter(Number(fd), json ? JSON_FRAME : TEXT_FRAME, !json);
  const render = json ? renderJson : renderText;
  const method = (level) => {
    // The older client never silences FATAL.
    if (level.priority < least.priority && (modern || level !== LEVELS.FATAL)) return () => {};
    return (message, ...params) => {
      const now = new Date();
      write(level, now, render(now.toISOString(), level.name, message, params));
    };
  };
  for (const level of Object.values(LEVELS)) console[level.name.toLowerCase()] = method(level);
  console.log = console.info;
  logAnError = json
    ? (_, err) => console.error(errors.intoError(err))
    : (message, err) => console.error(message, errors.toLogText(errors.intoError(err)));
}

/** Logs an error that ends an invocation or the process. */
function logError(message, err) {
  logAnError(message, err);
}

function renderText(time, level, message, params) {
  return `${time}\t${global[REQUEST_ID]}\t${level}\t${format(message, ...params)}`;
}

function renderJson(timestamp, level, message, params) {
  const result = { timestamp, level, requestId: global[REQUEST_ID] };
  const tenantId = global[TENANT_ID];
  if (tenantId !== undefined && tenantId !== null && tenantId !== '') result.tenantId = tenantId;
  if (params.length === 0) {
    result.message = message;
    try {
      return JSON.stringify(result, errorsAsObjects);
    } catch {
      result.message = format(result.message);
      return JSON.stringify(result);
    }
  }
  result.message = format(message, ...params);
  const err = [message, ...params].find((param) => param instanceof Error);
  if (err !== undefined) {
    result.errorType = err.constructor?.name ?? 'UnknownError';
    result.errorMessage = err.message;
    result.stackTrace = typeof err.stack === 'string' ? err.stack.split('\n') : [];
  }
  return JSON.stringify(result);
}

function errorsAsObjects(_, value) {
  if (!(value instanceof Error)) return value;
  const stackTrace = typeof value.stack === 'string' ? value.stack.split('\n') : value.stack;
  const errorType = value.constructor?.name ?? 'UnknownError';
  return Object.assign({ errorType, errorMessage: value.message, stackTrace }, value);
}

// Straight to the descriptor: process.stdout costs a millisecond to create, and both write at once.
function writeLine(_level, _now, text) {
  writeAll(1, Buffer.from(text.replace(/\n/g, '\r') + '\n'));
}

function frameWriter(fd, kind, withLineEnd) {
  return (level, now, text) => {
    const message = Buffer.from(withLineEnd ? text + '\n' : text);
    const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + message.length);
    frame.writeUInt32BE((kind | level.mask) >>> 0, 0);
    frame.writeUInt32BE(message.length, 4);
    frame.writeBigInt64BE(BigInt(now.valueOf()) * 1000n, 8);
    message.copy(frame, FRAME_HEAD_BYTES);
    writeAll(fd, frame);
  };
}

function writeAll(fd, data) {
  let written = 0;
  while (written < data.length) {
    try {
      written += writeSync(fd, data, written);
    } catch (err) {
      // The function may have made the pipe non-blocking; nobody may be reading it any more.
      if (err.code !== 'EAGAIN') return;
    }
  }
}

module.exports = { forgetInvocation, logError, patchConsole, setInvocation };
