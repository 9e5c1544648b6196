// Bridges: ours to mosquitto and to another Sapwood, and mosquitto's own to us.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import mqtt from "mqtt";
import { Mosquitto, until } from "./mosquitto-broker.js";
import { Inbox, Server } from "./server.js";

/** A client that has subscribed; its messages can be awaited as lines. */
async function listen(url, filter, options = {}) {
  const lines = new Inbox();
  const client = mqtt.connect(url, options);
  client.on("message", (topic, payload, { qos, retain }) => lines.push(`${topic} ${payload} ${qos} ${Number(retain)}`));
  await once(client, "connect");
  await client.subscribeAsync(filter, { qos: 2 });
  return { next: (what) => lines.next(what), waiting: () => lines.length, stop: () => client.endAsync() };
}

async function publish(url, ...messages) {
  const client = await mqtt.connectAsync(url);
  for (const [topic, payload, options] of messages) await client.publishAsync(topic, payload, options);
  await client.endAsync();
}

/** The next lines, in the order of the alphabet. */
async function lines(inbox, count) {
  const all = [];
  while (all.length < count) all.push(await inbox.next(`line ${all.length + 1} of ${count}`));
  return all.sort();
}

const connected = (server) => until("the bridge is connected", () => server.log.includes("bridge connected"));

const bridge = (address, topics, more = "") =>
  `mqtt.bridge=[{ name = "b", address = "${address}", client_id = "b", reconnect_s_max = 1, topics = [${topics}] ${more} }]`;

const ALL = '{ filter = "#", qos = 2, local_prefix = "far/" }, { filter = "near/#", qos = 2, direction = "out" }';

for (const version of ["5", "3.1.1"]) {
  test(`ours to mosquitto, ${version}: both ways, all QoS, retained, prefixes, no loops, over a restart`, async (t) => {
    const broker = await Mosquitto.start();
    const own = bridge(broker.url, ALL, `, version = "${version}"`);
    const server = await Server.start("--set", own);
    t.after(() => Promise.all([server.stop(), broker.remove()]));
    await server.printed;
    await connected(server);
    const here = await listen(server.mqtt, "#");
    const there = await listen(broker.url, "#");
    for (const qos of [0, 1, 2]) {
      await publish(server.mqtt, ["near/a", `n${qos}`, { qos }], ["far/b", `f${qos}`, { qos }]);
      assert.deepEqual(await lines(there, 2), [`b f${qos} ${qos} 0`, `near/a n${qos} ${qos} 0`]);
      await publish(broker.url, ["c", `c${qos}`, { qos }]);
      assert.equal(await there.next(), `c c${qos} ${qos} 0`);
      assert.deepEqual(await lines(here, 3), [
        `far/b f${qos} ${qos} 0`, `far/c c${qos} ${qos} 0`, `near/a n${qos} ${qos} 0`,
      ]);
    }
    await publish(broker.url, ["kept", "1", { qos: 1, retain: true }]);
    await until("the record is here", async () => (await server.fetch("/far/kept")).status === 200);
    await server.put("/far/put", 2);
    assert.deepEqual(await lines(there, 2), ["kept 1 1 0", "put 2 2 0"]);
    await publish(broker.url, ["kept", "", { qos: 1, retain: true }]);
    await until("the record is gone", async () => (await server.fetch("/far/kept")).status === 404);
    await there.next("the end of what was retained");
    await lines(here, 3);
    const again = await listen(broker.url, "#");
    assert.equal(await again.next(), "put 2 2 1");
    await Promise.all([again.stop(), there.stop()]);

    await (await late(broker)).stop();
    await broker.stop();
    await until("the bridge has noticed", () => server.log.includes("bridge not connected"));
    const missed = Array.from({ length: 100 }, (_, n) => ["near/missed", String(n), { qos: 1 + (n % 2) }]);
    await publish(server.mqtt, ...missed);
    await lines(here, 100);
    await broker.startAgain();
    const after = await late(broker);
    const got = [];
    while (got.length < 100) got.push(await live(after));
    // Each once. Their order is mosquitto's: a message that finds room goes out before those that wait for some.
    assert.deepEqual(got.sort(), missed.map(([topic, payload, { qos }]) => `${topic} ${payload} ${qos} 0`).sort());
    await publish(broker.url, ["c", "last", { qos: 2 }]);
    assert.equal(await here.next(), "far/c last 2 0");
    assert.equal(await live(after), "c last 2 0");
    assert.deepEqual([here.waiting(), after.waiting()], [0, 0]);
    await Promise.all([here.stop(), after.stop()]);
    assert.equal(await server.end(), 0);

    // A server that knows nothing of what mosquitto keeps for its bridge.
    await publish(broker.url, ["c", "kept for it", { qos: 2, retain: true }]);
    const other = await Server.start("--set", own);
    t.after(() => other.stop());
    await until("it got what was kept", async () => (await other.fetch("/far/c")).status === 200);
    await other.put("/far/c", "and back");
    const last = await listen(broker.url, "c");
    while (!(await last.next()).includes("and back"));
    await last.stop();
  });
}

/** The next line that is not a first state. */
async function live(inbox) {
  for (;;) {
    const line = await inbox.next("something live");
    if (line.endsWith(" 0")) return line;
  }
}

/** A client whose session the broker keeps over a restart, so that it sees what comes first. */
const late = (broker) => listen(broker.url, "#", { clientId: "late", clean: false });

test("ours to another Sapwood: over restarts of that one, once at QoS 2", async (t) => {
  const far = await Server.start();
  await far.printed;
  const port = new URL(far.mqtt).port;
  const near = await Server.start("--set", bridge(`127.0.0.1:${port}`, '{ filter = "t/#", qos = 2 }'));
  t.after(() => Promise.all([near.stop(), far.stop()]));
  await near.printed;
  await connected(near);
  await publish(far.mqtt, ["t/far", "1", { qos: 1, retain: true }]);
  await until("in", async () => (await near.fetch("/t/far")).status === 200);
  await far.end();
  near.log = "";
  await near.put("/t/near", 2);
  await far.startAgain();
  await far.printed;
  await connected(near);
  await until("out", async () => (await far.fetch("/t/near")).status === 200);
  assert.deepEqual(await far.get("/t"), { far: 1, near: 2 });
  const metrics = await (await near.fetch("/metrics")).text();
  assert.match(metrics, /sapwood_mqtt_bridge_connected\{bridge="b"\} 1/);
  assert.match(metrics, /sapwood_mqtt_bridge_relayed_total\{bridge="b",direction="in"\} [1-9]/);
});

test("what waits for the other broker outlives kill -9, and goes over once", async (t) => {
  const broker = await Mosquitto.start();
  const near = await Server.start("--set", bridge(broker.url, '{ filter = "t/#", qos = 2, direction = "out" }'));
  t.after(() => Promise.all([near.stop(), broker.remove()]));
  await near.printed;
  await connected(near);
  await (await late(broker)).stop();
  await broker.stop();
  const waiting = Array.from({ length: 100 }, (_, n) => ["t/a", String(n), { qos: 2 }]);
  await publish(near.mqtt, ...waiting);
  await near.end("SIGKILL");
  await near.startAgain();
  await near.printed;
  await broker.startAgain();
  const after = await late(broker);
  const got = [];
  while (got.length < 100) got.push(await live(after));
  await publish(near.mqtt, ["t/end", "", { qos: 2 }]);
  assert.equal(await live(after), "t/end  2 0");
  assert.deepEqual(got.sort(), waiting.map(([topic, payload]) => `${topic} ${payload} 2 0`).sort());
  await after.stop();
});

for (const version of ["mqttv311", "mqttv50"]) {
  test(`mosquitto's own bridge to us, ${version}: both ways, all QoS, retained, over its restart`, async (t) => {
    const server = await Server.start();
    await server.printed;
    const port = new URL(server.mqtt).port;
    const broker = await Mosquitto.start(
      "connection up",
      `address 127.0.0.1:${port}`,
      `bridge_protocol_version ${version}`,
      "cleansession false",
      "restart_timeout 1",
      "notifications false",
      "topic # both 2 out/ in/",
    );
    t.after(() => Promise.all([server.stop(), broker.remove()]));
    const here = await listen(server.mqtt, "#");
    const there = await listen(broker.url, "#");
    await until("the bridge is connected", async () => {
      await publish(server.mqtt, ["in/ready", "", { qos: 1 }]);
      return there.waiting() > 0;
    });
    await publish(server.mqtt, ["in/go", "", { qos: 2 }]);
    while (!(await here.next()).startsWith("in/go"));
    while (!(await there.next()).startsWith("out/go"));
    for (const qos of [0, 1, 2]) {
      await publish(server.mqtt, ["in/a", `a${qos}`, { qos }]);
      await publish(broker.url, ["out/b", `b${qos}`, { qos }]);
      assert.deepEqual(await lines(here, 2), [`in/a a${qos} ${qos} 0`, `in/b b${qos} ${qos} 0`]);
      assert.deepEqual(await lines(there, 2), [`out/a a${qos} ${qos} 0`, `out/b b${qos} ${qos} 0`]);
    }
    await publish(broker.url, ["out/kept", "1", { qos: 1, retain: true }]);
    await until("the record is here", async () => (await server.fetch("/in/kept")).status === 200);
    await server.put("/in/put", 2);
    await lines(there, 2);
    const again = await listen(broker.url, "out/put");
    assert.equal(await again.next(), "out/put 2 2 1");
    await Promise.all([here.stop(), there.stop(), again.stop()]);
    // In 5.0 mosquitto 2.0 asks for no session that outlives its connection.
    if (version === "mqttv50") return;

    await (await late(broker)).stop();
    await broker.stop();
    await publish(server.mqtt, ...Array.from({ length: 50 }, (_, n) => ["in/missed", String(n), { qos: 2 }]));
    await broker.startAgain();
    const after = await late(broker);
    const missed = [];
    while (missed.length < 50) {
      const line = await live(after);
      if (line.startsWith("out/missed")) missed.push(line);
    }
    assert.deepEqual(missed.sort(), Array.from({ length: 50 }, (_, n) => `out/missed ${n} 2 0`).sort());
    await after.stop();
  });
}
