// npm `ws`: the WebSocket client of most Node programs.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { Inbox, Server } from "./server.js";

let server;
before(async () => (server = await Server.start("--set", "http.echo=true")));
after(() => server.stop());

/** Opens a socket; text frames come parsed. */
async function open(path, protocols = [], options = {}) {
  const inbox = new Inbox();
  const socket = new WebSocket(server.ws + path, protocols, options);
  const closed = new Promise((done) => socket.on("close", (code, reason) => done({ code, reason: String(reason) })));
  socket.on("message", (data, binary) => inbox.push(binary ? data : JSON.parse(data)));
  await new Promise((done, failed) => {
    socket.once("open", done);
    socket.once("error", failed);
  });
  let ids = 0;
  const call = async (command) => {
    const id = ++ids;
    socket.send(JSON.stringify({ id, ...command }));
    for (;;) {
      const frame = await inbox.next(`the answer to ${JSON.stringify(command)}`);
      if (frame.id === id && frame.type === undefined) return frame;
    }
  };
  return { socket, next: (what) => inbox.next(what), call, closed };
}

test("a socket sees the state and then each change", async () => {
  await server.put("/ws/state", { a: 1 });
  const { socket, next } = await open("/ws/state");
  const first = await next("the state");
  assert.deepEqual([first.type, first.path, first.value], ["put", "/ws/state", { a: 1 }]);
  await server.put("/ws/state/b", 2);
  const change = await next("the change");
  assert.deepEqual([change.type, change.path, change.value], ["put", "/ws/state/b", 2]);
  socket.close();
});

test("commands are answered behind the events that they made", async () => {
  const { socket, next } = await open("/ws/commands");
  await next("the state");
  socket.send(JSON.stringify({ id: "w", op: "put", value: { n: 1 } }));
  const event = await next("the event");
  assert.deepEqual([event.type, event.value], ["put", { n: 1 }]);
  const answer = await next("the answer");
  assert.equal(answer.id, "w");
  assert.equal(answer.ok.version, event.version);
  socket.close();
});

test("get, patch, delete and publish do what HTTP's do", async () => {
  const { socket, call } = await open("/ws/ops");
  assert.ok((await call({ op: "put", path: "/ws/ops/x", value: { a: 1, b: 2 } })).ok);
  assert.ok((await call({ op: "patch", path: "/ws/ops/x", value: { a: null, c: 3 } })).ok);
  assert.deepEqual((await call({ op: "get", path: "/ws/ops/x" })).ok.value, { b: 2, c: 3 });
  assert.deepEqual(await server.get("/ws/ops/x"), { b: 2, c: 3 });
  assert.equal((await call({ op: "publish", path: "/ws/ops", value: "hi" })).ok.receivers, 1);
  assert.ok((await call({ op: "delete", path: "/ws/ops/x" })).ok);
  assert.equal((await server.fetch("/ws/ops/x")).status, 404);
  socket.close();
});

test("a command that can't be done is answered, never ignored", async () => {
  const { socket, call, next } = await open("/ws/wrong");
  await next("the state");
  const unknown = await call({ op: "jump" });
  assert.equal(typeof unknown.error.code, "string");
  const condition = await call({ op: "put", value: 1, if: { exists: true } });
  assert.equal(typeof condition.error.code, "string");
  socket.send("this is no JSON");
  const answer = await next("an answer to no JSON");
  assert.equal(typeof answer.error.code, "string");
  assert.ok((await call({ op: "put", value: 1 })).ok, "the socket lives on");
  socket.close();
});

test("an owned record goes, and what was left for the end is done, when the session ends", async () => {
  const watcher = await open("/ws-end/x");
  await watcher.next("the state");
  const { socket, call } = await open("/ws-end/other");
  assert.ok((await call({ op: "put", path: "/ws-end/x/here", value: true, owner: true })).ok);
  assert.ok((await call({ op: "put", path: "/ws-end/x/left", value: true, at_end: true })).ok);
  assert.equal((await watcher.next("the record")).path, "/ws-end/x/here");
  socket.terminate();
  const told = [await watcher.next("one end"), await watcher.next("the other")];
  const paths = told.map((event) => `${event.type} ${event.path}`).sort();
  assert.deepEqual(paths, ["delete /ws-end/x/here", "put /ws-end/x/left"]);
  watcher.socket.close();
});

test("what was left for the end is done after a crash, before anyone can look", async () => {
  const own = await Server.start();
  const socket = new WebSocket(`${own.ws}/crash/a`);
  const answered = new Promise((done) =>
    socket.on("message", (data) => JSON.parse(data).ok && done()),
  );
  socket.on("error", () => {});
  socket.on("open", () =>
    socket.send(JSON.stringify({ id: 1, op: "put", path: "/crash/state", value: "gone", at_end: true })),
  );
  await answered;
  await own.end("SIGKILL");
  await own.startAgain();
  assert.equal(await own.get("/crash/state"), "gone");
  await own.stop();
});

test("?since= resumes, and a path of children gives record events", async () => {
  const put = await server.put("/ws-since/a", 1);
  await server.put("/ws-since/a", 2);
  const { socket, next } = await open(`/ws-since/a?since=${put.headers.get("Sapwood-Version")}`);
  assert.equal((await next("what was missed")).value, 2);
  socket.close();
  const children = await open("/ws-since/");
  assert.deepEqual((({ id, value }) => ({ id, value }))(await children.next("the child")), { id: "a", value: 2 });
  children.socket.close();
});

test("an upgrade that offers only unknown subprotocols succeeds without one", async () => {
  const { socket } = await open("/ws/sub", ["nosuch.v1"], { skipUTF8Validation: false }).catch((error) => {
    // ws refuses an answer without the subprotocol that it offered; the server has answered 101 all the same.
    assert.match(String(error), /subprotocol/i);
    return { socket: undefined };
  });
  socket?.close();
});

test("/.echo sends back text and binary as they came", async () => {
  const socket = new WebSocket(`${server.ws}/.echo`);
  const inbox = new Inbox();
  socket.on("message", (data, binary) => inbox.push({ data: Buffer.from(data), binary }));
  await new Promise((done) => socket.on("open", done));
  socket.send("grüß dich");
  socket.send(Buffer.from([0, 255, 128]));
  socket.send("x".repeat(100_000));
  assert.deepEqual(await inbox.next("text"), { data: Buffer.from("grüß dich"), binary: false });
  assert.deepEqual(await inbox.next("bytes"), { data: Buffer.from([0, 255, 128]), binary: true });
  assert.equal((await inbox.next("much")).data.length, 100_000);
  socket.close();
});

test("a frame that breaks the protocol closes with its code", async () => {
  const { socket, next, closed } = await open("/ws/broken");
  await next("the state");
  socket._socket.write(Buffer.from([0xf1, 0x80, 0, 0, 0, 0])); // reserved bits are set
  assert.equal((await closed).code, 1002);
  const bad = await open("/ws/broken");
  await bad.next("the state");
  bad.socket._socket.write(Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0xff])); // text that is no UTF-8
  assert.equal((await bad.closed).code, 1007);
});

test("a drain closes with 1001 and the server ends well", async () => {
  const own = await Server.start();
  const socket = new WebSocket(`${own.ws}/drain`);
  await new Promise((done) => socket.on("message", done));
  const closed = new Promise((done) => socket.on("close", done));
  const code = own.end("SIGTERM");
  assert.equal(await closed, 1001);
  assert.equal(await code, 0);
  await own.stop();
});
