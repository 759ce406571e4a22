'use strict';
// Randomness that does not repeat in the environments made from one snapshot. Node keeps some of it in advance:
//
// - V8 seeds `Math.random` once and offers no way to do it again. It is replaced before the function is loaded, and takes
//   its seed when it is first used: most events do without, and OpenSSL's first bytes take it 0.1 ms.
// - `crypto.randomUUID` and `crypto.randomInt` draw from caches. They are emptied ahead of the snapshot, so that their
//   next use fills them from OpenSSL, which the platform reseeds in every environment.
//
// Out of reach: `Math.random` and the caches of worker threads, `Math.random` of other `vm` contexts, and what packages
// keep in pools of their own.

const crypto = require('crypto');
const { createHook } = require('async_hooks');

// From Node's lib/internal/crypto/random.js.
const CACHES = [
  { draw: () => crypto.randomUUID(), size: 128 },
  { draw: () => crypto.randomInt(2), size: 1024 },
];

const forgetSeed = replaceMathRandom();
let fills = 0;
let emptied = false;
const watch = createHook({
  init(_id, type) {
    if (type === 'RANDOMBYTESREQUEST') fills++;
  },
});

function replaceMathRandom() {
  // xoshiro128**. Two of its outputs make the 53 bits that a number between 0 and 1 has room for.
  const state = new Int32Array(4);
  let a, b, c, d;
  let seeded = false;
  const seed = () => {
    do crypto.randomFillSync(state);
    while ((state[0] | state[1] | state[2] | state[3]) === 0);
    a = state[0];
    b = state[1];
    c = state[2];
    d = state[3];
    seeded = true;
  };
  const next = () => {
    const x = Math.imul(b, 5);
    const output = Math.imul((x << 7) | (x >>> 25), 9);
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = (d << 11) | (d >>> 21);
    return output;
  };
  // A method has no prototype and is no constructor, like the function that it replaces.
  const { random } = {
    random() {
      if (!seeded) seed();
      return ((next() >>> 5) * 0x4000000 + (next() >>> 6)) / 0x20000000000000;
    },
  };
  Object.defineProperty(Math, 'random', { ...Object.getOwnPropertyDescriptor(Math, 'random'), value: random });
  return () => {
    seeded = false;
  };
}

/** Empties the caches. From now until `renew` it is watched that they stay so: timers of the function still run. */
function prepare() {
  watch.enable();
  emptied = CACHES.every(empty);
  fills = 0;
}

function empty({ draw, size }) {
  fills = 0;
  for (let drawn = 0; fills === 0; drawn++) {
    if (drawn > size) return false;
    draw();
  }
  for (let drawn = 1; drawn < size; drawn++) draw();
  return fills === 1;
}

/** Called in every restored environment before any code of the function. */
function renew() {
  watch.disable();
  if (!emptied || fills > 0) {
    // As many values as a cache holds, wherever in it they begin: after them it has been filled anew.
    for (const { draw, size } of CACHES) for (let drawn = 0; drawn < size; drawn++) draw();
  }
  forgetSeed();
}

module.exports = { prepare, renew };
