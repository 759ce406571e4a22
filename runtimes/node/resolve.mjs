// Module hooks for Node versions without synchronous ones: looks for ES modules in NODE_PATH as well, as AWS's Node
// does.

import path from 'node:path';
import { pathToFileURL } from 'node:url';

const folders = (process.env.NODE_PATH || '').split(':').filter(Boolean);

export async function resolve(specifier, context, nextResolve) {
  try {
    return await nextResolve(specifier, context);
  } catch (err) {
    if (err?.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.|\/|[a-z]+:)/.test(specifier)) throw err;
    for (const folder of folders) {
      try {
        // As if the importing file were next to that node_modules.
        const parentURL = pathToFileURL(path.join(folder, '..', 'index.mjs')).href;
        return await nextResolve(specifier, { ...context, parentURL });
      } catch {
        continue;
      }
    }
    throw err;
  }
}
