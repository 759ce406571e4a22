'use strict';
// The errors of the platform, and the forms an error takes: the body sent to the Runtime API, the log line, the cause
// for X-Ray.

const { isNativeError } = require('util').types;

let modern = false;

const named = {};
for (const name of [
  'CallbackHandlerDeprecated',
  'HandlerNotFound',
  'ImportModuleError',
  'InvalidStreamingOperation',
  'JSONStringifyError',
  'MalformedHandlerName',
  'MalformedStreamingHandler',
  'PlatformError',
  'UnhandledPromiseRejection',
  'UserCodeSyntaxError',
]) {
  // A class of its own gives stack traces that start with its name.
  const ErrorClass = {
    [name]: class extends Error {
      constructor(message) {
        super(message);
        // The newer client's errors show it in their log lines.
        if (modern) this.name = `Runtime.${name}`;
      }
    },
  }[name];
  ErrorClass.prototype.name = `Runtime.${name}`;
  named[name] = ErrorClass;
}

function unhandledRejection(reason, promise) {
  return Object.assign(new named.UnhandledPromiseRejection(reason), { reason, promise });
}

function syntaxError(err) {
  const error = new named.UserCodeSyntaxError(err);
  if (modern) error.stack = err.stack;
  return error;
}

// DEL is not allowed in a header.
const clean = (text) => text?.replace(/\x7F/g, '%7F');

function isError(value) {
  if (modern) return value instanceof Error;
  const looksLikeOne = (v) =>
    v && typeof v.name === 'string' && typeof v.message === 'string' && typeof v.stack === 'string' && v.name && v.message && v.stack;
  return isNativeError(value) || looksLikeOne(value);
}

/** The body of an error report. */
function toResponse(error) {
  try {
    if (isError(error)) {
      const trace = modern ? clean(error.stack)?.split('\n') || [] : clean(error.stack).split('\n');
      return { errorType: clean(error.name), errorMessage: clean(error.message), trace };
    }
    const errorMessage = modern ? String(error) : error.toString();
    return { errorType: typeof error, errorMessage, trace: [] };
  } catch {
    const errorMessage =
      'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack';
    return modern ? { errorType: 'handled', errorMessage, trace: [] } : { errorType: 'handled', errorMessage };
  }
}

function intoError(value) {
  if (value instanceof Error) return value;
  return new Error(modern ? String(value) : value);
}

/** The text of an error in a log line. */
function toLogText(error) {
  try {
    return '\t' + JSON.stringify(error, (_, value) => withEnumerableProperties(value));
  } catch {
    return '\t' + JSON.stringify(toResponse(error));
  }
}

function withEnumerableProperties(value) {
  if (!(value instanceof Error)) return value;
  const fields = Object.assign({ errorType: value.name, errorMessage: value.message, code: value.code }, value);
  if (typeof value.stack === 'string') fields.stack = value.stack.split('\n');
  return fields;
}

/** The header that tells X-Ray what happened; empty if the error resists. */
function toXRayCause(error) {
  try {
    const stack = (clean(error.stack) || '').split('\n').slice(1).map(parseFrame);
    const cause = {
      working_directory: process.cwd(),
      exceptions: [{ type: clean(error.name), message: clean(error.message), stack }],
      paths: [...new Set(stack.map((frame) => frame.path))],
    };
    // Headers are ASCII.
    return JSON.stringify(cause).replace(/[\x80-\uffff]/g, escape);
  } catch {
    return '';
  }
}

function escape(character) {
  return '\\u' + character.charCodeAt(0).toString(16).padStart(4, '0');
}

function parseFrame(text) {
  const line = text.trim().replace(/[()]/g, '');
  const frame = line.slice(line.indexOf(' ') + 1);
  const space = frame.lastIndexOf(' ');
  const label = space >= 0 ? frame.slice(0, space) : '';
  const [path, number] = (label ? frame.slice(space + 1) : frame).split(':');
  return { path, line: parseInt(number), label: label || 'anonymous' };
}

/** JSON of a response; `undefined` is null. */
function stringify(value) {
  try {
    return JSON.stringify(value === undefined ? null : value);
  } catch {
    const message = 'Unable to stringify response body';
    throw modern ? new named.JSONStringifyError(message) : new Error(message);
  }
}

module.exports = {
  ...named,
  intoError,
  setModern: (value) => (modern = value),
  stringify,
  syntaxError,
  toLogText,
  toResponse,
  toXRayCause,
  unhandledRejection,
};
