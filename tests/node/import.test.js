// `sapwood import`: from mosquitto into the real binary.

import assert from "node:assert/strict";
import { resolve } from "node:path";
import { test } from "node:test";
import mqtt from "mqtt";
import { Mosquitto } from "./mosquitto-broker.js";
import { Server, run } from "./server.js";

const binary = process.env.TESTED_BINARY ?? resolve(import.meta.dirname, "../../target/release/sapwood");

test("what mosquitto has retained is taken over, more than it queues for a client, with its properties", async (t) => {
  const broker = await Mosquitto.start("max_queued_messages 1000");
  const server = await Server.start();
  t.after(() => Promise.all([server.stop(), broker.remove()]));
  await server.printed;
  const client = await mqtt.connectAsync(broker.url, { protocolVersion: 5 });
  const many = Array.from({ length: 5000 }, (_, n) => n);
  await Promise.all(many.map((n) => client.publishAsync(`home/${n}`, String(n), { qos: 1, retain: true })));
  const properties = { contentType: "text/plain", userProperties: { unit: "C" } };
  await client.publishAsync("other/text", "21 or so", { qos: 2, retain: true, properties });
  await client.publishAsync("not/wanted", "1", { qos: 1, retain: true });
  await client.endAsync();
  const args = ["import", broker.url, "--to", server.mqtt, "--filter", "home/#", "--filter", "other/#", "--quiet", "1"];
  const { code, stderr } = await run(binary, args);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^5001 retained messages \(\d+ bytes\) taken over from mqtt:.* 0 refused$/m);
  const home = await server.get("/home");
  assert.deepEqual(many.map((n) => home[n]), many);
  assert.equal((await server.fetch("/not/wanted")).status, 404);
  const reader = mqtt.connect(server.mqtt, { protocolVersion: 5 });
  const text = new Promise((done) => reader.on("message", (topic, payload, packet) => done([String(payload), packet])));
  await reader.subscribeAsync("other/text", { qos: 1 });
  const [payload, packet] = await text;
  assert.equal(payload, "21 or so");
  assert.equal(packet.properties.contentType, "text/plain");
  assert.deepEqual({ ...packet.properties.userProperties }, { unit: "C" });
  await reader.endAsync();
});
