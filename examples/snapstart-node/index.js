'use strict';
// A function that is slow to start, and hooks around the snapshot that spares it that.

const { randomUUID } = require('crypto');
const { beforeSnapshot, afterRestore } = require('@firn/snapshot');

const started = Date.now();
// What a real function does here: modules, clients, templates, tables.
const squares = new Map(Array.from({ length: 500_000 }, (_, n) => [n, n * n]));

const environment = { id: null, restored: null };

// Once, when a version is published: the place to close connections and to forget secrets.
beforeSnapshot(async () => {
  console.log(`init took ${Date.now() - started} ms; the snapshot is taken now`);
});

// In every environment that is made from the snapshot: the place for what must not be shared.
afterRestore(() => {
  environment.id = randomUUID();
  environment.restored = Date.now();
});

exports.handler = async (event) => ({
  square: squares.get(event?.n ?? 1999),
  initialization: process.env.AWS_LAMBDA_INITIALIZATION_TYPE,
  environment: environment.id,
  msSinceInit: Date.now() - started,
  msSinceRestore: environment.restored && Date.now() - environment.restored,
});
