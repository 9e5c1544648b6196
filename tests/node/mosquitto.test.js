// Debian's mosquitto_pub and mosquitto_sub, as their users call them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { Inbox, Server, run } from "./server.js";

let server, address;
before(async () => {
  server = await Server.start();
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

const publish = async (...args) => {
  const { code, stderr } = await run("mosquitto_pub", [...address, ...args]);
  assert.equal(code, 0, stderr);
};

for (const version of ["mqttv31", "mqttv311", "mqttv5"]) {
  test(`${version}: messages, records and HTTP's writes arrive`, async () => {
    const { next, stop } = await subscribe("-V", version, "-q", "2", "-F", "%t %p %q %r", "-t", `m/${version}/#`);
    for (const qos of ["0", "1", "2"]) {
      await publish("-V", version, "-q", qos, "-t", `m/${version}/said`, "-m", `q${qos}`);
      assert.equal(await next(), `m/${version}/said q${qos} ${qos} 0`);
    }
    await publish("-V", version, "-q", "1", "-r", "-t", `m/${version}/kept`, "-m", '{"a": 1}');
    assert.equal(await next(), `m/${version}/kept {"a": 1} 1 0`);
    assert.deepEqual(await server.get(`/m/${version}/kept`), { a: 1 });
    await server.put(`/m/${version}/other`, { b: [1, 2] });
    assert.equal(await next(), `m/${version}/other {"b":[1,2]} 2 0`);
    stop();
    const all = await run("mosquitto_sub", [
      ...address, "-V", version, "-F", "%t %p %r", "-t", `m/${version}/#`, "-C", "2",
    ]);
    assert.equal(all.stdout, `m/${version}/kept {"a": 1} 1\nm/${version}/other {"b":[1,2]} 1\n`);
    await publish("-V", version, "-q", "1", "-r", "-n", "-t", `m/${version}/kept`);
    assert.equal((await server.fetch(`/m/${version}/kept`)).status, 404);
  });
}

test("a session that is not clean is kept, and a will is published", async () => {
  const kept = ["-c", "-i", "kept", "-q", "1", "-t", "m/kept"];
  await run("mosquitto_sub", [...address, ...kept, "-E"]);
  await publish("-q", "1", "-t", "m/kept", "-m", "missed");
  const { stdout } = await run("mosquitto_sub", [...address, ...kept, "-C", "1"]);
  assert.equal(stdout, "missed\n");

  const witness = await subscribe("-t", "m/will");
  const mortal = spawn("stdbuf", [
    "-oL", "mosquitto_sub", ...address, "-d", "-t", "x", "--will-topic", "m/will", "--will-payload", "gone",
  ]);
  await new Promise((done) => mortal.stdout.on("data", (data) => /SUBACK/.test(String(data)) && done()));
  mortal.kill("SIGKILL");
  assert.equal(await witness.next("the will"), "gone");
  witness.stop();
});

test("after kill -9 what was acknowledged is there, and wills come", async () => {
  const own = await Server.start();
  await own.printed;
  const port = ["-h", "127.0.0.1", "-p", new URL(own.mqtt).port];
  const mortal = spawn("stdbuf", [
    "-oL", "mosquitto_sub", ...port, "-d", "-t", "x", "--will-topic", "k/will", "--will-payload", "gone", "--will-retain",
  ]);
  await new Promise((done) => mortal.stdout.on("data", (data) => /SUBACK/.test(String(data)) && done()));
  for (const qos of ["1", "2"]) {
    const { code } = await run("mosquitto_pub", [...port, "-q", qos, "-r", "-t", `k/q${qos}`, "-m", qos]);
    assert.equal(code, 0);
  }
  await own.end("SIGKILL");
  mortal.kill("SIGKILL");
  await own.startAgain();
  assert.deepEqual(await own.get("/k"), { q1: 1, q2: 2, will: "gone" });
  await own.stop();
});

test("the lines that dev prints do what they say", async () => {
  const printed = await server.printed;
  const lines = printed.map((line) => line.trim()).filter((line) => line.startsWith("mosquitto_"));
  assert.equal(lines.length, 2);
  const [sub, pub] = lines;
  const child = spawn("sh", ["-c", `exec stdbuf -oL ${sub} -d`]);
  const got = new Inbox();
  createInterface({ input: child.stdout }).on("line", (line) => got.push(line));
  while (!(await got.next()).startsWith("Subscribed ")) {
    /* what it says before */
  }
  const { code } = await run("sh", ["-c", pub]);
  assert.equal(code, 0);
  let line;
  while (!(line = await got.next()).startsWith("sensors/341 ")) {
    /* what -d says */
  }
  assert.equal(line, 'sensors/341 {"temp": 22}');
  assert.deepEqual(await server.get("/sensors/341"), { temp: 22 });
  child.kill();
});

test("a Unix socket is as good as a port", async () => {
  const own = await Server.start("--set", "mqtt.unix=mqtt.sock");
  const unix = ["--unix", join(own.folder, "mqtt.sock")];
  await own.printed;
  for (const args of [["-r", "-m", "kept"], ["-m", "said"]]) {
    const { code, stderr } = await run("mosquitto_pub", [...unix, "-q", "1", "-t", "m/unix", ...args]);
    assert.equal(code, 0, stderr);
  }
  const { stdout } = await run("mosquitto_sub", [...unix, "-t", "m/unix", "-C", "1"]);
  assert.equal(stdout, "kept\n");
  await own.stop();
});
