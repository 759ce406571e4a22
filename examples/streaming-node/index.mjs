// Streams an answer line by line; a buffered call gets all lines at once.

import { setTimeout as sleep } from "node:timers/promises";

export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.setContentType("text/plain");
  for (let i = 1; i <= (event.lines ?? 3); i += 1) {
    stream.write(`line ${i}\n`);
    await sleep(50);
  }
  stream.end();
});
