'use strict';
// From a handler's name to the function: `dir/file.export`, in CommonJS or an ES module.

const fs = require('fs');
const path = require('path');
const { createRequire, Module } = require('module');
const errors = require('./errors.js');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const RUNTIME_DIR = process.env.LAMBDA_RUNTIME_DIR || '/var/runtime';

// Errors about missing modules list who asked; on AWS the last one is this file.
const requireAsRuntime = createRequire(path.join(RUNTIME_DIR, 'index.mjs'));

async function loadHandler(appRoot, name, modern) {
  if (name.includes('..')) {
    throw new errors.MalformedHandlerName(
      `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const base = path.basename(name);
  const folder = name.substring(0, name.indexOf(base));
  const parts = /^([^.]*)\.(.*)$/.exec(base);
  if (parts === null) throw new errors.MalformedHandlerName('Bad handler');
  const [, file, exported] = parts;

  setGlobals(modern);
  setLazyGc();
  preferLayersToSdk();
  let loaded;
  try {
    loaded = await loadModule(appRoot, folder, file, modern);
  } catch (err) {
    if (err instanceof SyntaxError) throw errors.syntaxError(err);
    if (err?.code === 'MODULE_NOT_FOUND') throw new errors.ImportModuleError(err);
    throw err;
  }
  let handler = find(loaded, exported);
  if (!handler && modern && loaded?.default) handler = find(loaded.default, exported);
  if (!handler) throw new errors.HandlerNotFound(`${name} is undefined or not exported`);
  if (typeof handler !== 'function') throw new errors.HandlerNotFound(`${name} is not a function`);
  return handler;
}

function find(object, names) {
  return names.split('.').reduce((nested, key) => nested && nested[key], object);
}

async function loadModule(appRoot, folder, file, modern) {
  const target = path.resolve(appRoot, folder, file);
  const load = modern ? loadAsImported : requireAsRuntime;
  if (isFile(target)) return load(target);
  if (isFile(target + '.js')) {
    return isModulePackage(path.dirname(target)) ? importFile(target + '.js') : load(target + '.js');
  }
  if (isFile(target + '.mjs')) return importFile(target + '.mjs');
  if (isFile(target + '.cjs')) return load(target + '.cjs');
  return requireAsRuntime(requireAsRuntime.resolve(file, { paths: [appRoot, folder] }));
}

/** What `import()` of a CommonJS file gives, without starting the loader of ES modules. */
function loadAsImported(file) {
  try {
    return Module._load(file, null, false);
  } catch (err) {
    // An ES module that only its syntax tells, or a real mistake, which fails again.
    if (!(err instanceof SyntaxError) && !/^ERR_REQUIRE_(ESM|ASYNC_MODULE)$/.test(err?.code)) throw err;
    return importFile(file);
  }
}

function isFile(file) {
  return fs.existsSync(file);
}

/** Whether the nearest package.json makes `.js` files ES modules. */
function isModulePackage(folder) {
  if (folder.endsWith('/node_modules')) return false;
  const manifest = path.join(folder, 'package.json');
  if (fs.existsSync(manifest)) {
    try {
      return JSON.parse(fs.readFileSync(manifest, 'utf8'))?.type === 'module';
    } catch (err) {
      console.warn(`${manifest} cannot be read, it will be ignored for ES module detection purposes.`, err);
      return false;
    }
  }
  return folder !== '/' && isModulePackage(path.dirname(folder));
}

function importFile(file) {
  useNodePathForImports();
  return import(require('url').pathToFileURL(file).href);
}

// The SDK is at /node_modules as well, for ES modules, which do not search NODE_PATH. There it would come before the
// layers, which `require` must find first, so `require` does not look there: it finds the SDK through NODE_PATH.
function preferLayersToSdk() {
  const nodeModulePaths = Module._nodeModulePaths;
  Module._nodeModulePaths = (from) => nodeModulePaths(from).filter((dir) => dir !== '/node_modules');
}

// AWS's Node searches NODE_PATH for ES modules too. Hooks cost time at the start, so only with layers.
function useNodePathForImports() {
  const layered = (process.env.NODE_PATH || '').split(':').some((dir) => dir.startsWith('/opt/') && fs.existsSync(dir));
  if (!layered) return;
  const module = require('module');
  if (module.registerHooks) {
    module.registerHooks({ resolve: resolveInNodePath });
  } else if (module.register) {
    module.register(require('url').pathToFileURL(path.join(__dirname, 'resolve.mjs')).href);
  }
}

function resolveInNodePath(specifier, context, nextResolve) {
  try {
    return nextResolve(specifier, context);
  } catch (err) {
    if (err?.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.|\/|[a-z]+:)/.test(specifier)) throw err;
    for (const dir of process.env.NODE_PATH.split(':').filter(Boolean)) {
      try {
        // As if the importing file were next to that node_modules.
        const parentURL = require('url').pathToFileURL(path.join(dir, '..', 'index.mjs')).href;
        return nextResolve(specifier, { ...context, parentURL });
      } catch {
        continue;
      }
    }
    throw err;
  }
}

function setGlobals(modern) {
  if (/^(1|true)$/.test(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA || '')) return;
  globalThis.awslambda = {
    ...globalThis.awslambda,
    streamifyResponse(handler, options) {
      handler[STREAMING] = 'response';
      if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = parseInt(options.highWaterMark);
      return handler;
    },
    HttpResponseStream,
  };
  if (modern) globalThis.awslambda.InvokeStore = require('./invoke-store.js').invokeStore;
}

// AWS runs Node with --expose-gc. Given at the start, the flag makes V8 throw away the code that Node ships compiled,
// which costs more than it is worth to the few functions that use it.
function setLazyGc() {
  if ('gc' in globalThis) return;
  const define = (value) => Object.defineProperty(globalThis, 'gc', { value, writable: true, configurable: true });
  Object.defineProperty(globalThis, 'gc', {
    configurable: true,
    get() {
      require('v8').setFlagsFromString('--expose-gc');
      define(require('vm').runInNewContext('gc'));
      return globalThis.gc;
    },
    set: define,
  });
}

class HttpResponseStream {
  /** Puts status, headers and cookies in front of the body: JSON, then eight NUL bytes. */
  static from(underlyingStream, prelude) {
    underlyingStream.setContentType('application/vnd.awslambda.http-integration-response');
    const text = JSON.stringify(prelude);
    underlyingStream._onBeforeFirstWrite = (write) => {
      write(text);
      write(new Uint8Array(8));
    };
    return underlyingStream;
  }
}

/** How the handler wants to be called. */
function handlerMetadata(handler) {
  const kind = handler[STREAMING];
  const streaming = kind !== undefined && kind !== null && kind !== false;
  if (streaming && kind !== 'response') {
    throw new errors.MalformedStreamingHandler('Only response streaming is supported.');
  }
  const highWaterMark = parseInt(handler[HIGH_WATER_MARK]);
  return { streaming, highWaterMark: highWaterMark > 0 ? highWaterMark : undefined, argsNum: handler.length };
}

module.exports = { loadHandler, handlerMetadata };
