'use strict';
// HTTP to the Runtime API over one kept-alive socket. Every request leaves in one write.
//
// The socket keeps the process alive only while an answer is awaited, so that an event loop with nothing else to do
// counts as empty.

const net = require('net');

const API = '/2018-06-01/runtime';
const READ_BYTES = 64 * 1024;

class Connection {
  constructor(host, port) {
    this.pending = null;
    this.used = false;
    this.closed = false;
    this.partial = null; // the start of an answer whose head is not complete
    this.answer = null; // an answer whose body is not complete
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    const received = (count, data) => {
      this.received(data.subarray(0, count));
      return true;
    };
    this.socket = net.connect({ host, port, onread: { buffer, callback: received } });
    this.socket.setNoDelay(true);
    this.socket.unref();
    this.socket.on('error', (err) => this.lost(err));
    this.socket.on('close', () => this.lost(new Error('The Runtime API closed the connection')));
  }

  /** Calls back with (error, status, headers, body as a string). `request` is null if it is written elsewhere. */
  exchange(request, callback) {
    this.pending = callback;
    this.socket.ref();
    if (request !== null) this.socket.write(request);
  }

  received(data) {
    if (this.answer !== null) {
      const answer = this.answer;
      answer.have += data.copy(answer.body, answer.have);
      if (answer.have === answer.body.length) this.complete(answer.status, answer.headers, answer.body.utf8Slice());
      return;
    }
    if (this.partial !== null) data = Buffer.concat([this.partial, data]);
    const end = data.indexOf('\r\n\r\n');
    if (end < 0) {
      this.partial = Buffer.from(data);
      return;
    }
    const lines = data.utf8Slice(0, end).split('\r\n');
    const status = Number(lines[0].slice(9, 12));
    const headers = {};
    for (let i = 1; i < lines.length; i++) {
      const line = lines[i];
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const start = end + 4;
    const length = Number(headers['content-length'] || 0);
    if (data.length - start >= length) {
      this.complete(status, headers, data.utf8Slice(start, start + length));
      return;
    }
    const body = Buffer.allocUnsafe(length);
    this.partial = null;
    this.answer = { status, headers, body, have: data.copy(body, 0, start) };
  }

  complete(status, headers, body) {
    const callback = this.pending;
    this.pending = this.partial = this.answer = null;
    this.used = true;
    this.socket.unref();
    if (headers.connection === 'close') this.close();
    if (callback !== null) callback(null, status, headers, body);
  }

  lost(err) {
    this.closed = true;
    const callback = this.pending;
    // Of a request on a connection that had idled, the server has seen nothing: it may be sent again.
    err.retry = this.partial === null && this.answer === null;
    this.pending = null;
    if (callback !== null) callback(err);
  }

  close() {
    this.closed = true;
    this.socket.destroy();
  }
}

class RuntimeApi {
  constructor(address) {
    const colon = address.lastIndexOf(':');
    this.host = address.slice(0, colon).replace(/^\[|\]$/g, '');
    this.port = Number(address.slice(colon + 1));
    this.common = `Host: ${address}\r\nUser-Agent: aws-lambda-nodejs/${process.version}-firn\r\n`;
    this.nextRequest = this.getRequest('/invocation/next');
    this.connection = null;
  }

  getRequest(path) {
    return `GET ${API}${path} HTTP/1.1\r\n${this.common}\r\n`;
  }

  responsePath(id) {
    return `/invocation/${encodeURIComponent(id)}/response`;
  }

  /** Calls back with (error, headers, body). */
  next(callback) {
    // A response stream that was abandoned half-way must not end as if it were whole.
    if (this.connection !== null && this.connection.pending !== null) this.connection.close();
    const answered = (err, status, headers, body) => {
      if (!err && status !== 200) err = new Error(`Failed to get next invocation, error ${status}`);
      callback(err, headers, body);
    };
    this.send(this.nextRequest, answered, true);
  }

  /** Calls back with (error, status, headers, body). `waits`: the answer may be long in coming. */
  get(path, callback, waits = false) {
    this.send(this.getRequest(path), callback, waits);
  }

  postResponse(id, body, callback) {
    this.post(this.responsePath(id), '', body, callback);
  }

  postError(id, body, xrayCause, callback) {
    const header = xrayCause ? `lambda-runtime-function-xray-error-cause: ${xrayCause}\r\n` : '';
    this.post(`/invocation/${encodeURIComponent(id)}/error`, header, body, callback);
  }

  postInitError(body, type, callback) {
    this.post('/init/error', `Lambda-Runtime-Function-Error-Type: ${type}\r\n`, body, callback);
  }

  postRestoreError(body, type, callback) {
    this.post('/restore/error', `Lambda-Runtime-Function-Error-Type: ${type}\r\n`, body, callback);
  }

  /** Calls back, without arguments, when the server has answered or is gone: there is nobody to tell of a failure. */
  post(path, headers, body, callback) {
    if (typeof body !== 'string') throw new TypeError('Wrong arguments');
    const head = `POST ${API}${path} HTTP/1.1\r\n${this.common}Content-Type: application/json\r\n${headers}`;
    this.send(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, () => callback());
  }

  // A request that waits changes nothing, and its connection may be lost for reasons outside: the environment was frozen
  // and thawed meanwhile. It is sent again, once.
  send(request, callback, waits = false) {
    const connection = this.free();
    const retryable = waits || connection.used;
    connection.exchange(request, (err, status, headers, body) => {
      if (err && err.retry && retryable) {
        this.free().exchange(request, callback);
      } else {
        callback(err, status, headers, body);
      }
    });
  }

  /** A connection that nothing is awaited on; a second one if the first is busy, as in an error between two events. */
  free() {
    const connection = this.connection;
    if (connection !== null && !connection.closed && connection.pending === null) return connection;
    const fresh = new Connection(this.host, this.port);
    if (connection === null || connection.closed) this.connection = fresh;
    return fresh;
  }

  /** The socket for a streamed response, and the head of its request but for what the function may still set. */
  openStream(id, callback) {
    const connection = this.free();
    connection.exchange(null, callback);
    const head = `POST ${API}${this.responsePath(id)} HTTP/1.1\r\n${this.common}`;
    return { socket: connection.socket, head };
  }
}

module.exports = { RuntimeApi };
