'use strict';
// Stands in for the native part of aws-lambda-ric, which takes minutes to compile: the same three functions over HTTP.
// `done` and `error` block in the original; here the next call waits for them.

const http = require('http');
const Module = require('module');

const API = '/2018-06-01/runtime/invocation';
const agent = new http.Agent({ keepAlive: false });
let posted = Promise.resolve();

function call(method, path, headers, body) {
  const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, method, path: API + path, headers, agent }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

function post(path, headers, body) {
  if (typeof body !== 'string') throw new TypeError('Wrong arguments');
  headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers };
  posted = call('POST', path, headers, body);
}

const client = {
  async next() {
    await posted;
    const { headers, body } = await call('GET', '/next', {});
    const known = /^lambda-runtime-(?!invocation-id)/;
    return { bodyJson: body, headers: Object.fromEntries(Object.entries(headers).filter(([name]) => known.test(name))) };
  },
  done: (id, body) => post(`/${id}/response`, {}, body),
  error(id, body, cause) {
    // The original sends bytes that Node's own http module would not.
    const ascii = cause.replace(/[\x80-\uffff]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
    post(`/${id}/error`, cause ? { 'lambda-runtime-function-xray-error-cause': ascii } : {}, body);
  },
};

// The process must not end before what it said last is out.
const exit = process.exit;
process.exit = (code) => {
  const waiting = posted;
  posted = Promise.resolve();
  waiting.then(() => exit(code), () => exit(code));
  return undefined;
};

const resolve = Module._resolveFilename;
Module._resolveFilename = (request, ...rest) => (request.endsWith('rapid-client.node') ? __filename : resolve(request, ...rest));
module.exports = client;
