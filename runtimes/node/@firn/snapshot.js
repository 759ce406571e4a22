'use strict';
// The hooks around a snapshot: `require('@firn/snapshot')`; ES modules, which do not search the runtime's folder, find
// the same object as `globalThis[Symbol.for('firn.snapshot')]`. It is there in every environment, so that a function
// need not know whether it becomes a snapshot.

const KEY = Symbol.for('firn.snapshot');

function makeHooks() {
  const registered = { before: [], after: [] };
  const add = (list, hook) => {
    if (typeof hook !== 'function') throw new TypeError('A snapshot hook must be a function');
    list.push(hook);
  };
  const hooks = {
    /** Runs before the snapshot is taken, the last registered first. May return a promise. */
    beforeSnapshot: (hook) => add(registered.before, hook),
    /** Runs after every restore, in the order of registration, ahead of the first event. May return a promise. */
    afterRestore: (hook) => add(registered.after, hook),
  };
  // For the runtime alone, so not enumerable.
  return Object.freeze(Object.defineProperty(hooks, 'registered', { value: registered }));
}

if (globalThis[KEY] === undefined) Object.defineProperty(globalThis, KEY, { value: makeHooks() });

module.exports = globalThis[KEY];
