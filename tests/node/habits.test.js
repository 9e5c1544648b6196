// What Home Assistant, Node-RED and zigbee2mqtt do with a broker, by their documents, through MQTT.js: their users change nothing
// but the address.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import mqtt from "mqtt";
import { Inbox, Server } from "./server.js";

let server;
before(async () => {
  server = await Server.start();
  await server.printed;
});
after(() => server.stop());

/** Connects as 3.1.1, as they do; `next` tells messages as `topic payload`, with ` retained` where that is set. */
async function connect(options = {}) {
  const inbox = new Inbox();
  const client = mqtt.connect(server.mqtt, { protocolVersion: 4, reconnectPeriod: 0, ...options });
  // Before it is connected: what a kept session missed comes at once.
  client.on("message", (topic, payload, packet) => {
    inbox.push({ line: `${topic} ${payload}${packet.retain ? " retained" : ""}`, packet });
  });
  await new Promise((done, failed) => client.once("connect", done).once("error", failed));
  const next = async (what) => (await inbox.next(what)).line;
  /** So many, sorted: between topics there is no order to rely on. */
  const several = async (count) => {
    const lines = [];
    while (lines.length < count) lines.push(await next(`${count - lines.length} more`));
    return lines.sort();
  };
  /** That nothing is on its way: what is said last comes next. */
  const silent = async () => {
    await client.subscribeAsync("silence");
    await client.publishAsync("silence", "");
    assert.equal(await next("silence"), "silence ");
    await client.unsubscribeAsync("silence");
  };
  return { client, next, several, silent, inbox };
}

/** Cuts the connection as a failing network does. */
const cut = ({ client }) => client.stream.destroy();

const retained = { qos: 1, retain: true };

// --- Home Assistant: MQTT discovery, birth and will, availability

const config = (name) => ({
  name,
  state_topic: `home/${name}/state`,
  availability_topic: `home/${name}/availability`,
  unique_id: name,
  device: { identifiers: [name] },
});

test("Home Assistant finds what announced itself before it came, and what comes later", async () => {
  const device = await connect();
  const early = JSON.stringify(config("early"));
  await device.client.publishAsync("homeassistant/sensor/early/config", early, retained);
  const home = await connect({ clean: true });
  await home.client.subscribeAsync({
    "homeassistant/+/+/config": { qos: 0 },
    "homeassistant/+/+/+/config": { qos: 0 },
    "homeassistant/status": { qos: 0 },
  });
  assert.equal(await home.next(), `homeassistant/sensor/early/config ${early} retained`);
  const late = JSON.stringify(config("late"), undefined, 2);
  await device.client.publishAsync("homeassistant/light/node/late/config", late, retained);
  assert.equal(await home.next(), `homeassistant/light/node/late/config ${late}`);
  // The database has them as data.
  assert.equal((await server.get("/homeassistant/sensor/early/config")).state_topic, "home/early/state");
  // An empty one takes a device back.
  await device.client.publishAsync("homeassistant/sensor/early/config", "", retained);
  assert.equal(await home.next(), "homeassistant/sensor/early/config ");
  const again = await connect();
  await again.client.subscribeAsync("homeassistant/#");
  assert.equal(await again.next(), `homeassistant/light/node/late/config ${late} retained`);
  await again.silent();
  for (const { client } of [device, home, again]) await client.endAsync();
});

test("all that is retained below homeassistant/# comes first, once each", async () => {
  const device = await connect();
  const expected = [];
  for (let n = 0; n < 200; n++) {
    const topic = `homeassistant/sensor/many${String(n).padStart(3, "0")}/config`;
    const payload = JSON.stringify(config(`many${n}`));
    device.client.publish(topic, payload, retained);
    expected.push(`${topic} ${payload} retained`);
  }
  await device.client.publishAsync("homeassistant/sensor/many000/config", JSON.stringify(config("many0")), retained);
  const home = await connect();
  await home.client.subscribeAsync("homeassistant/sensor/#", { qos: 1 });
  assert.deepEqual(await home.several(200), expected.sort());
  await home.silent();
  for (const { client } of [device, home]) await client.endAsync();
});

test("the birth and the will of Home Assistant reach devices, and are not kept", async () => {
  const device = await connect();
  await device.client.subscribeAsync("homeassistant/status");
  const home = await connect({ will: { topic: "homeassistant/status", payload: "offline", qos: 0, retain: false } });
  await home.client.publishAsync("homeassistant/status", "online");
  assert.equal(await device.next(), "homeassistant/status online");
  cut(home);
  assert.equal(await device.next(), "homeassistant/status offline");
  assert.equal((await server.fetch("/homeassistant/status")).status, 404);
  await device.client.endAsync();
});

test("a device's availability follows it, also for who comes later", async () => {
  const availability = "home/lamp/availability";
  const options = { clientId: "lamp", will: { topic: availability, payload: "offline", ...retained } };
  let device = await connect(options);
  await device.client.publishAsync(availability, "online", retained);
  const home = await connect();
  await home.client.subscribeAsync(availability);
  assert.equal(await home.next(), `${availability} online retained`);
  cut(device);
  assert.equal(await home.next(), `${availability} offline`);
  assert.equal(await server.get(`/${availability}`), "offline");
  device = await connect(options);
  await device.client.publishAsync(availability, "online", retained);
  assert.equal(await home.next(), `${availability} online`);
  // Who leaves well says so itself, and its will is void.
  await device.client.publishAsync(availability, "offline", retained);
  await device.client.endAsync();
  assert.equal(await home.next(), `${availability} offline`);
  await home.silent();
  await home.client.endAsync();
});

test("a state is what a device wrote, to the byte, and a value to others", async () => {
  const device = await connect();
  const home = await connect();
  await home.client.subscribeAsync("home/values/+");
  for (const [payload, value] of [
    ["21.50", 21.5],
    ["ON", "ON"],
    ["on", "on"],
    ["true", true],
    ["unavailable", "unavailable"],
    ['{"temperature": 21.50, "battery":100 }', { temperature: 21.5, battery: 100 }],
    ["[1, 2]", [1, 2]],
    ["007", "007"],
    [" 5 ", 5],
  ]) {
    await device.client.publishAsync("home/values/x", payload, retained);
    assert.equal(await home.next(), `home/values/x ${payload}`);
    assert.deepEqual(await server.get("/home/values/x"), value);
  }
  for (const { client } of [device, home]) await client.endAsync();
});

// --- Node-RED: the nodes mqtt in and mqtt out

test("overlapping mqtt-in nodes of one broker are told once, in 5.0 with the identifiers of both", async () => {
  const out = await connect();
  for (const protocolVersion of [4, 5]) {
    const flow = await connect({ protocolVersion, clientId: `nodered_${protocolVersion}`, keepalive: 60, clean: true });
    const identified = (id) => (protocolVersion === 5 ? { properties: { subscriptionIdentifier: id } } : {});
    await flow.client.subscribeAsync("red/#", { qos: 2, ...identified(1) });
    await flow.client.subscribeAsync("red/+/state", { qos: 0, ...identified(2) });
    await out.client.publishAsync("red/lamp/state", "x", { qos: 2 });
    const { line, packet } = await flow.inbox.next();
    assert.deepEqual([line, packet.qos], ["red/lamp/state x", 2]);
    if (protocolVersion === 5) assert.deepEqual(packet.properties.subscriptionIdentifier.toSorted(), [1, 2]);
    await flow.silent();
    await flow.client.endAsync();
  }
  await out.client.endAsync();
});

test("a flow that keeps its session gets at QoS 1 and 2 what it missed", async () => {
  const out = await connect();
  for (const options of [
    { protocolVersion: 4, clean: false },
    { protocolVersion: 5, clean: false, properties: { sessionExpiryInterval: 60 } },
  ]) {
    const named = { clientId: `nodered_kept_${options.protocolVersion}`, ...options };
    const flow = await connect(named);
    await flow.client.subscribeAsync("red/kept", { qos: 2 });
    await flow.client.endAsync();
    for (const [qos, payload] of [[1, "one"], [2, "two"], [1, "three"]]) {
      await out.client.publishAsync("red/kept", payload, { qos });
    }
    const again = await connect(named);
    // MQTT.js hands a message of QoS 2 on when it is released.
    assert.deepEqual(await again.several(3), ["red/kept one", "red/kept three", "red/kept two"]);
    await again.silent();
    await again.client.endAsync();
  }
  await out.client.endAsync();
});

test("birth, close and will of a flow are published in their case, and no other", async () => {
  const witness = await connect();
  await witness.client.subscribeAsync("red/status");
  const will = { topic: "red/status", payload: "lost", qos: 0, retain: true };
  const flow = await connect({ will });
  await flow.client.publishAsync("red/status", "born", { retain: true });
  assert.equal(await witness.next(), "red/status born");
  // On a deploy: the close message, then DISCONNECT.
  await flow.client.publishAsync("red/status", "closed", { retain: true });
  await flow.client.endAsync();
  assert.equal(await witness.next(), "red/status closed");
  const lost = await connect({ will });
  cut(lost);
  assert.equal(await witness.next(), "red/status lost");
  await witness.silent();
  await witness.client.endAsync();
});

test("what an mqtt-out node says with properties of 5.0 arrives with them", async () => {
  const flow = await connect({ protocolVersion: 5 });
  await flow.client.subscribeAsync("red/request", { qos: 1 });
  const properties = {
    contentType: "application/json",
    responseTopic: "red/answer",
    correlationData: Buffer.from("7"),
    userProperties: { flow: "f1" },
    payloadFormatIndicator: true,
    messageExpiryInterval: 60,
  };
  await flow.client.publishAsync("red/request", '{"a":1}', { qos: 1, properties });
  const { packet } = await flow.inbox.next();
  const got = packet.properties;
  assert.deepEqual([got.contentType, got.responseTopic, String(got.correlationData)], ["application/json", "red/answer", "7"]);
  assert.deepEqual({ ...got.userProperties }, { flow: "f1" });
  await flow.client.endAsync();
});

// --- zigbee2mqtt: base topic, bridge topics, devices with and without their availability below them

test("zigbee2mqtt's layout is a tree: a device's state, and its availability below it", async () => {
  const base = "zigbee2mqtt";
  const bridge = await connect({
    clientId: "zigbee2mqtt",
    will: { topic: `${base}/bridge/state`, payload: '{"state":"offline"}', ...retained },
  });
  await bridge.client.subscribeAsync([`${base}/+/set`, `${base}/+/get`, `${base}/bridge/request/#`]);
  const devices = Array.from({ length: 400 }, (_, n) => ({
    ieee_address: `0x${n.toString(16).padStart(16, "0")}`,
    friendly_name: `device ${n}`,
    definition: { model: "x".repeat(300), exposes: [{ type: "light", features: [{ name: "state" }] }] },
  }));
  const kept = {
    [`${base}/bridge/state`]: '{"state":"online"}',
    [`${base}/bridge/info`]: '{"version":"2.0.0","permit_join":false}',
    [`${base}/bridge/devices`]: JSON.stringify(devices),
    [`${base}/lamp`]: '{"state":"ON","brightness":200,"color":{"x":0.3,"y":0.4}}',
    [`${base}/lamp/availability`]: '{"state":"online"}',
  };
  for (const [topic, payload] of Object.entries(kept)) await bridge.client.publishAsync(topic, payload, retained);

  const home = await connect();
  await home.client.subscribeAsync(`${base}/#`);
  const first = Object.entries(kept).map(([topic, payload]) => `${topic} ${payload} retained`);
  assert.deepEqual(await home.several(first.length), first.sort());
  // A database sees one tree.
  const lamp = await server.get(`/${base}/lamp`);
  assert.deepEqual([lamp.state, lamp.color, lamp.availability], ["ON", { x: 0.3, y: 0.4 }, { state: "online" }]);
  assert.equal((await server.get(`/${base}/bridge/devices`)).length, devices.length);

  // A command is a message: from MQTT, and from a program that speaks HTTP. Nothing of it is kept.
  await home.client.publishAsync(`${base}/lamp/set`, '{"state":"OFF"}');
  assert.equal(await bridge.next(), `${base}/lamp/set {"state":"OFF"}`);
  assert.equal(await home.next(), `${base}/lamp/set {"state":"OFF"}`);
  const headers = { "Content-Type": "application/json" };
  const answer = await server.fetch(`/${base}/lamp/set?publish`, { method: "POST", headers, body: '{"state":"TOGGLE"}' });
  assert.deepEqual(await answer.json(), { receivers: 2 });
  assert.equal(await bridge.next(), `${base}/lamp/set {"state":"TOGGLE"}`);
  assert.equal(await home.next(), `${base}/lamp/set {"state":"TOGGLE"}`);
  assert.equal((await server.fetch(`/${base}/lamp/set`)).status, 404);

  // The new state replaces the old one, and leaves what lies below it.
  await bridge.client.publishAsync(`${base}/lamp`, '{"state":"OFF"}', retained);
  assert.equal(await home.next(), `${base}/lamp {"state":"OFF"}`);
  assert.deepEqual(await server.get(`/${base}/lamp`), { state: "OFF", availability: { state: "online" } });
  await home.client.publishAsync(`${base}/bridge/request/permit_join`, '{"value":true}');
  assert.equal(await bridge.next(), `${base}/bridge/request/permit_join {"value":true}`);
  assert.equal(await home.next(), `${base}/bridge/request/permit_join {"value":true}`);
  cut(bridge);
  assert.equal(await home.next(), `${base}/bridge/state {"state":"offline"}`);
  await home.silent();
  await home.client.endAsync();
});

test("a device that is removed takes its own record along, and what lies below it stays until it is removed, too", async () => {
  const device = await connect();
  await device.client.publishAsync("zigbee2mqtt/gone", '{"state":"ON"}', retained);
  await device.client.publishAsync("zigbee2mqtt/gone/availability", "online", retained);
  await device.client.publishAsync("zigbee2mqtt/gone", "", retained);
  assert.deepEqual(await server.get("/zigbee2mqtt/gone"), { availability: "online" });
  await device.client.publishAsync("zigbee2mqtt/gone/availability", "", retained);
  assert.equal((await server.fetch("/zigbee2mqtt/gone")).status, 404);
  await device.client.endAsync();
});
