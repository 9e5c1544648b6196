// MQTT.js in a page: its browser build in Debian's Chromium, over WebSockets, from the server's own folder of files.

import assert from "node:assert/strict";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { launch, open, skip } from "./chromium.js";
import { Server } from "./server.js";

const bundle = resolve(import.meta.dirname, "../node_modules/mqtt/dist/mqtt.min.js");

let server, browser, folder;
before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), "sapwood-page-"));
  await copyFile(bundle, join(folder, "mqtt.min.js"));
  await writeFile(join(folder, "page.html"), '<!doctype html><title>MQTT</title><link rel="icon" href="data:,"><script src="mqtt.min.js"></script>');
  server = await Server.start("--public", folder);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Connects in the page; `window.told` then is what it has been told, as `topic text qos retain`. */
function connect(page, options) {
  return page.evaluate(async (options) => {
    const url = `${location.origin.replace("http", "ws")}/mqtt`;
    window.told = [];
    window.client = await mqtt.connectAsync(url, { reconnectPeriod: 200, ...options });
    window.client.on("message", (topic, payload, packet) =>
      window.told.push(`${topic} ${payload} ${packet.qos} ${packet.retain}`),
    );
  }, options);
}

/** Waits until the page has been told so many things, and returns them. */
async function told(page, count) {
  await page.waitForFunction((count) => window.told.length >= count, count);
  return page.evaluate(() => window.told.splice(0));
}

for (const protocolVersion of [4, 5]) {
  test(`a page that speaks version ${protocolVersion} sees records and messages of every QoS`, { skip }, async () => {
    const at = `page/${protocolVersion}`;
    await server.put(`/${at}/lamp`, { on: true });
    const { page, wrong } = await open(browser, `${server.url}/page.html`);
    await connect(page, { protocolVersion });
    await page.evaluate((at) => client.subscribeAsync(`${at}/#`, { qos: 2 }), at);
    assert.deepEqual(await told(page, 1), [`${at}/lamp {"on":true} 2 true`]);
    await server.put(`/${at}/lamp/on`, false);
    assert.deepEqual(await told(page, 1), [`${at}/lamp {"on":false} 2 false`]);
    for (const qos of [0, 1, 2]) {
      await page.evaluate(([at, qos]) => client.publishAsync(`${at}/said`, "hello", { qos }), [at, qos]);
      assert.deepEqual(await told(page, 1), [`${at}/said hello ${qos} false`]);
    }
    await page.evaluate((at) => client.publishAsync(`${at}/kept`, '{"a":1}', { qos: 1, retain: true }), at);
    assert.deepEqual(await server.get(`/${at}/kept`), { a: 1 });
    assert.deepEqual(wrong, []);
    await page.context().close();
  });
}

test("a closed page's will is published, and a page comes back by itself", { skip }, async () => {
  const witness = await open(browser, `${server.url}/page.html`);
  await connect(witness.page, { protocolVersion: 5 });
  await witness.page.evaluate(() => client.subscribeAsync("page/gone", { qos: 1 }));
  const mortal = await open(browser, `${server.url}/page.html`);
  await connect(mortal.page, { protocolVersion: 5, will: { topic: "page/gone", payload: "gone", qos: 1 } });
  await mortal.page.close();
  assert.deepEqual(await told(witness.page, 1), ["page/gone gone 1 false"]);

  // The server stops; the page subscribes again when it is back.
  const back = witness.page.evaluate(() => new Promise((done) => client.once("connect", () => done(true))));
  assert.equal(await server.end(), 0);
  await server.startAgain();
  assert.equal(await back, true);
  await server.put("/page/gone", 1);
  assert.match((await told(witness.page, 1))[0], /^page\/gone 1 /);
  await witness.page.context().close();
  await mortal.page.context().close();
});

test("a payload of a megabyte goes through a page", { skip }, async () => {
  const { page, wrong } = await open(browser, `${server.url}/page.html`);
  await connect(page, { protocolVersion: 5 });
  const same = await page.evaluate(async () => {
    const sent = new Uint8Array(1 << 20).map((_, n) => (n * 7) & 255);
    await client.subscribeAsync("page/big");
    const got = new Promise((done) => client.once("message", (_, payload) => done(payload)));
    await client.publishAsync("page/big", mqtt.Buffer?.from?.(sent) ?? sent, { qos: 1 });
    const payload = await got;
    return payload.length === sent.length && payload.every((byte, n) => byte === sent[n]);
  });
  assert.equal(same, true);
  assert.deepEqual(wrong, []);
  await page.context().close();
});
