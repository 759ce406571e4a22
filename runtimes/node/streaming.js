'use strict';
// The stream that a function with a streamed response writes to: a chunked request body, written by hand so that it
// can share the socket of all other requests.

const { Writable } = require('stream');
const errors = require('./errors.js');

const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type';
const ERROR_BODY = 'Lambda-Runtime-Function-Error-Body';
const LINE_END = Buffer.from('\r\n');

class ResponseStream extends Writable {
  #socket;
  #head;
  #contentType = 'application/octet-stream';
  #started = false;
  #written = false;
  #trailers = '';

  constructor(socket, head, highWaterMark) {
    super({ decodeStrings: true, highWaterMark });
    this.#socket = socket;
    this.#head = head;
  }

  setContentType(contentType) {
    if (this.#written) throw new errors.InvalidStreamingOperation('Cannot set content-type, too late.');
    this.#contentType = contentType;
  }

  write(chunk, encoding, callback) {
    let data = chunk;
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) data = JSON.stringify(chunk);
    if (!this.#written && typeof this._onBeforeFirstWrite === 'function') {
      this._onBeforeFirstWrite((first) => super.write(first));
    }
    this.#written = true;
    return super.write(data, encoding, callback);
  }

  _write(chunk, _encoding, callback) {
    this.#send([{ chunk }], '', callback);
  }

  _writev(chunks, callback) {
    this.#send(chunks, '', callback);
  }

  _final(callback) {
    this.#send([], `0\r\n${this.#trailers}\r\n`, callback);
  }

  _destroy(err, callback) {
    // Cut off in the middle, so that nobody takes it for a whole response.
    if (!this.writableFinished) this.#socket.destroy();
    callback(err);
  }

  /** Ends the response with an error after what has been written. */
  endWithError(error, callback) {
    const response = errors.toResponse(error);
    const body = Buffer.from(JSON.stringify(response)).toString('base64');
    this.#trailers = `${ERROR_TYPE}: ${response.errorType}\r\n${ERROR_BODY}: ${body}\r\n`;
    this.end(callback);
  }

  #send(chunks, end, callback) {
    const parts = [];
    if (!this.#started) {
      this.#started = this.#written = true;
      parts.push(
        Buffer.from(
          `${this.#head}Lambda-Runtime-Function-Response-Mode: streaming\r\n` +
            `Trailer: ${ERROR_TYPE}\r\nTrailer: ${ERROR_BODY}\r\n` +
            `Content-Type: ${this.#contentType}\r\nTransfer-Encoding: chunked\r\n\r\n`,
        ),
      );
    }
    for (const { chunk } of chunks) {
      // A chunk of no bytes would be the last.
      if (chunk.length > 0) parts.push(Buffer.from(chunk.length.toString(16) + '\r\n'), chunk, LINE_END);
    }
    if (end) parts.push(Buffer.from(end));
    this.#socket.write(Buffer.concat(parts), callback);
  }
}

/** `answered` settles with the server's answer; `fail` ends the response with an error and settles after that. */
function openResponseStream(api, id, highWaterMark) {
  let stream;
  const answered = new Promise((resolve, reject) => {
    const { socket, head } = api.openStream(id, (err) => {
      if (err) {
        stream.destroy(err);
        reject(err);
      } else {
        resolve();
      }
    });
    stream = new ResponseStream(socket, head, highWaterMark);
  });
  // A lost connection is told to the function by its stream, not as an unhandled rejection.
  answered.catch(() => {});
  const fail = (error) => {
    if (!stream.writableEnded && !stream.destroyed) stream.endWithError(error);
    return answered.catch(() => {});
  };
  return { stream, answered, fail };
}

module.exports = { openResponseStream };
