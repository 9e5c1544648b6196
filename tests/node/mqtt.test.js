// npm `mqtt` (MQTT.js): the client of Node programs and of pages, over TCP and over a WebSocket.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import mqtt from "mqtt";
import WebSocket from "ws";
import { Inbox, Server } from "./server.js";

let server;
before(async () => {
  server = await Server.start();
  await server.printed;
});
after(() => server.stop());

/** Connects; messages can be awaited as `{ topic, text, packet }`. */
async function connect(url, options = {}) {
  const inbox = new Inbox();
  const client = await mqtt.connectAsync(url, { reconnectPeriod: 0, ...options });
  client.on("message", (topic, payload, packet) => inbox.push({ topic, text: String(payload), packet }));
  return { client, next: (what) => inbox.next(what), inbox };
}

const transports = [
  ["TCP", () => server.mqtt],
  ["a WebSocket at /", () => server.ws],
  ["a WebSocket at /mqtt", () => `${server.ws}/mqtt`],
];

for (const [name, url] of transports) {
  for (const protocolVersion of [4, 5]) {
    test(`MQTT.js with ${protocolVersion} over ${name} sees records and messages`, async () => {
      const { client, next } = await connect(url(), { protocolVersion });
      await server.put("/js/record", { a: 1 });
      await client.subscribeAsync("js/#", { qos: 2 });
      const first = await next("the first state");
      assert.deepEqual([first.topic, first.text, first.packet.retain], ["js/record", '{"a":1}', true]);
      await server.put("/js/record", { a: 2 });
      const change = await next("the change");
      assert.deepEqual([change.topic, change.text, change.packet.retain], ["js/record", '{"a":2}', false]);
      for (const qos of [0, 1, 2]) {
        await client.publishAsync("js/said", `q${qos}`, { qos });
        const said = await next("the message");
        assert.deepEqual([said.topic, said.text, said.packet.qos], ["js/said", `q${qos}`, qos]);
      }
      await client.publishAsync("js/record", "", { retain: true, qos: 1 });
      assert.equal((await next("the removal")).text, "");
      assert.equal((await server.fetch("/js/record")).status, 404);
      await client.endAsync();
    });
  }
}

test("an EventSource and a page's MQTT see the same", async () => {
  const { client } = await connect(server.ws, { protocolVersion: 5 });
  const stream = await server.fetch("/js-both/", { headers: { Accept: "text/event-stream" } });
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  await client.publishAsync("js-both/lamp", "ON", { retain: true, qos: 1 });
  let text = "";
  while (!text.includes('"value":"ON"')) text += (await reader.read()).value;
  await reader.cancel();
  await client.endAsync();
});

test("the subprotocol is agreed on, and packets may be cut anywhere", async () => {
  // 6.0.0-1, 6.0.0-2, 6.0.0-3, 6.0.0-4; 3.1.1, 6.0.0-1, 6.0.0-2, 6.0.0-4
  const socket = new WebSocket(server.ws, ["other", "mqtt"]);
  const got = [];
  socket.on("message", (data, binary) => got.push(binary ? data : assert.fail("text")));
  await new Promise((done) => socket.once("open", done));
  assert.equal(socket.protocol, "mqtt");
  const connect = Buffer.from([0x10, 13, 0, 4, 77, 81, 84, 84, 4, 2, 0, 60, 0, 1, 120]);
  const subscribe = Buffer.from([0x82, 8, 0, 1, 0, 3, 99, 117, 116, 0]);
  const publish = Buffer.from([0x30, 6, 0, 3, 99, 117, 116, 33]);
  for (const byte of Buffer.concat([connect, subscribe, publish])) socket.send(Buffer.from([byte]));
  const expected = Buffer.concat([Buffer.from([0x20, 2, 0, 0]), Buffer.from([0x90, 3, 0, 1, 0]), publish]);
  while (Buffer.concat(got).length < expected.length) await new Promise((done) => socket.once("message", done));
  assert.deepEqual(Buffer.concat(got), expected);
  // 6.0.0-1
  const closed = new Promise((done) => socket.once("close", done));
  socket.send("text");
  await closed;
});

test("clients are told that the server stops, and come back to their session", async () => {
  const own = await Server.start();
  await own.printed;
  const { client } = await connect(own.mqtt, { protocolVersion: 5 });
  const told = new Promise((done) => client.on("disconnect", (packet) => done(packet.reasonCode)));
  assert.equal(await own.end(), 0);
  assert.equal(await told, 0x8b);
  await own.stop();
});
