// Serves a page, and the stream that the page reads while it is written.

import { setTimeout as sleep } from "node:timers/promises";

const PAGE = `<!doctype html>
<meta charset="utf-8">
<title>A stream</title>
<h1>A stream from a function</h1>
<pre id="out"></pre>
<script type="module">
  const out = document.querySelector("#out");
  // Relative, so that it also works below a path.
  const response = await fetch(new URL("words", document.baseURI.replace(/\\/?$/, "/")));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    out.append(value);
  }
</script>
`;

const WORDS = "Each word leaves the moment that the function writes it , and the page shows it at once .".split(" ");

export const handler = awslambda.streamifyResponse(async (event, stream) => {
  const answer = (type) =>
    awslambda.HttpResponseStream.from(stream, { statusCode: 200, headers: { "content-type": type } });
  if (!event.rawPath?.endsWith("/words")) {
    // Status and headers go out with the first write, which `end` alone is not.
    const page = answer("text/html; charset=utf-8");
    page.write(PAGE);
    page.end();
    return;
  }
  const body = answer("text/plain; charset=utf-8");
  for (const word of WORDS) {
    body.write(`${word} `);
    await sleep(150);
  }
  body.end();
});
