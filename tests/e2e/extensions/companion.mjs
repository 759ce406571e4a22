#!/usr/bin/env node
// The same in JavaScript, with a TCP subscription.
import { appendFileSync } from "node:fs";
import { basename } from "node:path";
import { createServer } from "node:net";

const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}`;
const name = basename(process.argv[1]);

const register = await fetch(`${api}/2020-01-01/extension/register`, {
  method: "POST",
  headers: { "Lambda-Extension-Name": name },
  body: JSON.stringify({ events: ["INVOKE", "SHUTDOWN"] }),
});
const me = { "Lambda-Extension-Identifier": register.headers.get("lambda-extension-identifier") };

const server = createServer((socket) => {
  let rest = "";
  socket.on("data", (data) => {
    const lines = (rest + data).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      JSON.parse(line);
      appendFileSync("/tmp/node.jsonl", line + "\n");
    }
  });
});
await new Promise((ready) => server.listen(0, "sandbox.localdomain", ready));
const subscribed = await fetch(`${api}/2022-07-01/telemetry`, {
  method: "PUT",
  headers: me,
  body: JSON.stringify({
    schemaVersion: "2022-07-01",
    types: ["platform", "function"],
    buffering: { timeoutMs: 25 },
    destination: { protocol: "TCP", port: server.address().port },
  }),
});
console.log("subscribed:", subscribed.status, await subscribed.text());

for (;;) {
  const answer = await fetch(`${api}/2020-01-01/extension/event/next`, { headers: me });
  const event = await answer.json();
  console.log("node:", event.eventType);
  if (event.eventType === "SHUTDOWN") break;
}
process.exit(0);
