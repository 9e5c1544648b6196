// Formats, forms, queries and times, as mosquitto's clients ask for them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { Inbox, Server, run } from "./server.js";

const rules = [
  "--set", 'mqtt.payload=[{filter = "meters/#", form = "text"}, {filter = "strict/#", form = "json", must = true}]',
  "--set", 'mqtt.accept=[{format = "cbor", client = "esp-*"}]',
];

let server, address;
before(async () => {
  server = await Server.start(...rules);
  await server.printed;
  const { hostname, port } = new URL(server.mqtt);
  address = ["-h", hostname, "-p", port];
});
after(() => server.stop());

/** Starts mosquitto_sub, and waits until it has subscribed; its lines can be awaited. */
async function subscribe(...args) {
  const lines = new Inbox();
  // It does not flush what -d says.
  const child = spawn("stdbuf", ["-oL", "mosquitto_sub", ...address, "-d", ...args]);
  const subscribed = new Promise((done) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (/^Subscribed /.test(line)) done();
      else if (!/^(Client |Subscribed)/.test(line)) lines.push(line);
    });
  });
  await subscribed;
  return { next: (what) => lines.next(what), stop: () => child.kill() };
}

const publish = (...args) => run("mosquitto_pub", [...address, "-q", "1", ...args]);
const asking = (name, value) => ["-V", "5", "-D", "subscribe", "user-property", name, value];

test("data comes in the format that a subscriber names, or that is configured for it", async () => {
  await server.put("/f/http", { t: 5 });
  const [cbor, esp] = await Promise.all([
    subscribe(...asking("accept", "application/cbor"), "-F", "%t %C %x", "-t", "f/+"),
    subscribe("-i", "esp-1", "-F", "%t %x", "-t", "f/+"),
  ]);
  assert.equal(await cbor.next(), "f/http application/cbor a1617405");
  assert.equal(await esp.next(), "f/http a1617405");
  await publish("-t", "f/mqtt", "-m", '{"t": 6}');
  assert.equal(await cbor.next(), "f/mqtt application/cbor a1617406");
  assert.equal(await esp.next(), "f/mqtt a1617406");
  cbor.stop();
  esp.stop();
});

test("payloads are what the configuration says, or refused", async () => {
  assert.equal((await publish("-r", "-t", "meters/a", "-m", "5")).code, 0);
  assert.equal(await server.get("/meters/a"), "5");
  const refused = await publish("-V", "5", "-r", "-t", "strict/a", "-m", "ON");
  assert.match(refused.stderr, /Payload format invalid/);
  assert.equal((await server.fetch("/strict/a")).status, 404);
});

test("a query is a live stream of what matches", async () => {
  await server.put("/q/warm", { temp: 25 });
  await server.put("/q/cold", { temp: 5 });
  const { next, stop } = await subscribe(...asking("query", "temp=gt=20&lt=30"), "-F", "%t %p %r", "-t", "q/+");
  assert.equal(await next(), 'q/warm {"temp":25} 1');
  await server.put("/q/cold", { temp: 21 });
  assert.equal(await next(), 'q/cold {"temp":21} 0');
  await server.put("/q/cold", { temp: 6 });
  assert.equal(await next(), "q/cold  0");
  await server.put("/q/cold", { temp: 7 });
  await server.put("/q/warm", { temp: 26 });
  assert.equal(await next(), 'q/warm {"temp":26} 0');
  stop();
  const refused = await run("mosquitto_sub", [...address, ...asking("query", "temp"), "-t", "q/+"]);
  assert.match(refused.stdout + refused.stderr, /denied/);
});

test("a record that goes by itself is told with what is left of its time", async () => {
  await publish("-V", "5", "-r", "-t", "t/a", "-m", "1", "-D", "publish", "message-expiry-interval", "100");
  const { stdout } = await run("mosquitto_sub", [...address, "-V", "5", "-F", "%E", "-t", "t/a", "-C", "1"]);
  assert.ok(Number(stdout) > 90 && Number(stdout) <= 100, stdout);
});
