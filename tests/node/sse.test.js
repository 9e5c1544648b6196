// npm `eventsource`: the client that browsers have, as others wrote it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventSource } from "eventsource";
import { Inbox, Server } from "./server.js";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

/** Opens a stream; its events come parsed, with the id beside them. */
function open(path) {
  const inbox = new Inbox();
  const source = new EventSource(server.url + path);
  source.onmessage = (message) => inbox.push({ ...JSON.parse(message.data), lastEventId: message.lastEventId });
  return { source, next: (what) => inbox.next(what), inbox };
}

test("the first event is the state, and each write follows as it was made", async () => {
  await server.put("/sse/state", { on: true });
  const { source, next } = open("/sse/state");
  const first = await next("the first state");
  assert.equal(first.type, "put");
  assert.equal(first.path, "/sse/state");
  assert.deepEqual(first.value, { on: true });
  assert.match(first.version, /^[^.]+\.\d+$/);
  assert.equal(first.lastEventId, first.version);

  await server.put("/sse/state/on", false);
  const change = await next("the change");
  assert.deepEqual([change.type, change.path, change.value], ["put", "/sse/state/on", false]);

  await server.fetch("/sse/state", {
    method: "PATCH",
    headers: { "Content-Type": "application/json" },
    body: '{"on":null,"off":1}',
  });
  const patch = await next("the patch");
  assert.deepEqual([patch.type, patch.path, patch.value], ["patch", "/sse/state", { on: null, off: 1 }]);

  await server.fetch("/sse/state", { method: "DELETE" });
  const gone = await next("the delete");
  assert.deepEqual([gone.type, gone.path, "value" in gone], ["delete", "/sse/state", false]);
  source.close();
});

test("a path where nothing lies begins with null", async () => {
  const { source, next } = open("/sse/nothing");
  const first = await next("the first state");
  assert.deepEqual([first.type, first.value], ["put", null]);
  source.close();
});

test("a trailing slash gives record events, with the child's name", async () => {
  await server.put("/sse-rooms/a", { n: 1 });
  const { source, next } = open("/sse-rooms/");
  const first = await next("the first child");
  assert.deepEqual([first.type, first.path, first.id, first.value], ["put", "/sse-rooms/a", "a", { n: 1 }]);
  await server.put("/sse-rooms/b", { n: 2 });
  const change = await next("the second child");
  assert.deepEqual([change.id, change.value], ["b", { n: 2 }]);
  await server.put("/sse-rooms/b/n", 3);
  const inside = await next("a change inside it");
  assert.deepEqual([inside.id, inside.value], ["b", { n: 3 }]);
  await server.fetch("/sse-rooms/b", { method: "DELETE" });
  const gone = await next("its end");
  assert.deepEqual([gone.type, gone.id], ["delete", "b"]);
  source.close();
});

test("a message is told and not kept", async () => {
  const { source, next } = open("/sse/bell");
  await next("the first state");
  const answer = await server.fetch("/sse/bell?publish", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: '"ding"',
  });
  assert.deepEqual(await answer.json(), { receivers: 1 });
  const message = await next("the message");
  assert.deepEqual([message.type, message.path, message.value], ["message", "/sse/bell", "ding"]);
  assert.equal((await server.fetch("/sse/bell")).status, 404);
  source.close();
});

test("?since= goes on where it says, without a first state", async () => {
  const put = await server.put("/sse-since/a", 1);
  await server.put("/sse-since/a", 2);
  const { source, next } = open(`/sse-since/a?since=${put.headers.get("Sapwood-Version")}`);
  const change = await next("the change missed");
  assert.deepEqual([change.type, change.value], ["put", 2]);
  await server.put("/sse-since/a", 3);
  assert.equal((await next("the next")).value, 3);
  source.close();
});

test("a version that the server does not know is answered by a reset and the state", async () => {
  await server.put("/sse-reset/a", 1);
  const { source, next } = open("/sse-reset/a?since=00000000abc.1");
  assert.equal((await next("the reset")).type, "reset");
  const state = await next("the state");
  assert.deepEqual([state.type, state.value], ["put", 1]);
  source.close();
});

test("a large first state comes in pieces that add up to it", async () => {
  const big = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`k${i}`, "x".repeat(10_000)]));
  await server.put("/sse-large/a", big);
  const { source, next } = open("/sse-large/a");
  const first = await next("the first piece");
  assert.deepEqual([first.type, first.path, first.value], ["put", "/sse-large/a", {}]);
  assert.equal(first.version, undefined);
  const got = {};
  let piece;
  do {
    piece = await next("a piece");
    got[piece.path.split("/").at(-1)] = piece.value;
  } while (piece.version === undefined);
  assert.deepEqual(got, big);
  source.close();
});

test("after a restart of the server the client goes on without a gap and without a repeat", async () => {
  await server.put("/sse-restart/a", 1);
  const { source, next } = open("/sse-restart/a");
  assert.equal((await next("the state")).value, 1);
  assert.equal(await server.end("SIGTERM"), 0);
  await server.startAgain();
  await server.put("/sse-restart/a", 2);
  const change = await next("what was written meanwhile");
  assert.deepEqual([change.type, change.value], ["put", 2]);
  source.close();
});
