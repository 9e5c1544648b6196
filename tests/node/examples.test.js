// The programs of examples/: the device in Python, the page in Debian's Chromium, and the server between them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { launch, open, skip } from "./chromium.js";
import { Inbox, Server } from "./server.js";

const root = resolve(import.meta.dirname, "../..");
const python = resolve(root, "tests/.venv/bin/python");

let server, browser;
before(async () => {
  server = await Server.start("--public", resolve(root, "examples/public"));
  await server.printed;
  if (!skip) browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Starts a device; what it prints can be awaited. */
async function device(name, ...more) {
  const port = new URL(server.mqtt).port;
  const args = ["examples/device.py", "--host", "127.0.0.1", "--port", port, "--name", name, "--every", "0.05", ...more];
  const child = spawn(python, args, { cwd: root });
  const lines = new Inbox();
  let wrong = "";
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  child.stderr.on("data", (text) => (wrong += text));
  const ended = new Promise((done) => child.once("exit", (code) => done({ code, wrong })));
  assert.equal(await lines.next(`the device; it says ${wrong}`), `connected: home/${name}`);
  return { next: (what) => lines.next(what), kill: (signal) => (child.kill(signal), ended) };
}

/** Reads a path until it is so. */
async function becomes(path, is) {
  for (const end = Date.now() + 15_000; ; ) {
    const answer = await server.fetch(path);
    const value = answer.ok ? await answer.json() : undefined;
    if (is(value)) return value;
    assert.ok(Date.now() < end, `${path} stayed ${JSON.stringify(value)}`);
  }
}

test("the device reports, takes commands, and says when it is gone", async () => {
  const { next, kill } = await device("cellar", "--target", "20");
  await becomes("/home/cellar", (room) => room?.temperature === 20 && room.availability === "online");
  const found = await becomes("/homeassistant/climate/cellar/config", (config) => config !== undefined);
  assert.equal(found.temperature_command_topic, "home/cellar/set");
  const publish = (body, type = "application/json") =>
    server.fetch("/home/cellar/set?publish", { method: "POST", headers: { "Content-Type": type }, body });
  assert.deepEqual(await (await publish('{"target":22}')).json(), { receivers: 1 });
  await becomes("/home/cellar", (room) => room.temperature === 22);
  await publish("18");
  await becomes("/home/cellar/target", (target) => target === 18);
  await publish('{"goal":1}');
  assert.match(await next("a complaint"), /^not a command/);
  assert.equal((await server.fetch("/home/cellar/set")).status, 404);
  const { code, wrong } = await kill("SIGTERM");
  assert.deepEqual([code, wrong], [0, ""]);
  assert.equal(await server.get("/home/cellar/availability"), "offline");
  // Killed, its will says so.
  const mortal = await device("cellar");
  await becomes("/home/cellar/availability", (state) => state === "online");
  await mortal.kill("SIGKILL");
  await becomes("/home/cellar/availability", (state) => state === "offline");
});

test("the page shows devices and sets them, over a restart of the server", { skip }, async () => {
  const attic = await device("attic", "--target", "19");
  const { page, wrong } = await open(browser, `${server.url}/dashboard.html`);
  const room = (name) => page.locator("#rooms li", { has: page.getByRole("heading", { name, exact: true }) });
  await room("attic").getByText("19.0 °C").waitFor();
  await room("attic").getByText("online").waitFor();
  const bath = await device("bath", "--target", "19");
  await room("bath").getByText("19.0 °C").waitFor();
  await room("bath").getByRole("spinbutton").fill("23.5");
  await room("bath").getByRole("button", { name: "set" }).click();
  await room("bath").getByText("23.5 °C").waitFor();
  await becomes("/home/bath", (value) => value.target === 23.5 && value.temperature === 23.5);
  await bath.kill("SIGKILL");
  await room("bath").getByText("offline").waitFor();
  assert.equal(await room("bath").getByRole("button", { name: "set" }).isDisabled(), true);
  assert.deepEqual(wrong, []);

  // Both come back by themselves, to the same ports.
  assert.equal(await server.end(), 0);
  await page.getByText("connection lost").waitFor();
  await server.startAgain();
  await server.printed;
  assert.equal(await attic.next("the way back"), "connected: home/attic");
  await room("attic").getByText("online").waitFor();
  await server.fetch("/home/attic/set?publish", { method: "POST", body: "21", headers: { "Content-Type": "application/json" } });
  await room("attic").getByText("21.0 °C").waitFor();
  await page.context().close();
  assert.equal((await attic.kill("SIGTERM")).code, 0);
});
