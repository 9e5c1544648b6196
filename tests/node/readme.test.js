// Every example of the README's «Five minutes», and of the pages that show commands, run as it stands. A line that
// begins with `$` is a command; the lines below it are what it prints: each must begin a line of the real output.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { EventSource } from "eventsource";
import WebSocket from "ws";
import { Inbox, Server, run } from "./server.js";

const root = resolve(import.meta.dirname, "../..");

/** The fenced blocks of one kind on a page. */
function blocks(page, kind) {
  const text = readFileSync(join(root, page), "utf8");
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].filter((m) => m[1] === kind).map((m) => m[2]);
}

/** `[{ command, expected }]` of the console blocks. */
function commands(page) {
  const all = [];
  for (const line of blocks(page, "console").join("").trimEnd().split("\n")) {
    if (line.startsWith("$ ")) all.push({ command: line.slice(2), expected: [] });
    else all.at(-1).expected.push(line);
  }
  return all;
}

const here = (server, text) =>
  text
    .replaceAll("localhost:9000", `127.0.0.1:${server.port}`)
    .replaceAll("localhost -p 1883", `127.0.0.1 -p ${server.mqtt?.split(":").at(-1)}`);

/** A command that ends. */
async function ends(server, { command, expected }) {
  const { stdout, stderr, code } = await run("bash", ["-c", here(server, command).replaceAll("curl ", "curl -sS ")]);
  assert.equal(code, 0, `${command}\n${stderr}`);
  const lines = stdout.split(/\r?\n/);
  for (const line of expected) {
    assert.ok(lines.some((got) => got.startsWith(line)), `${command}\nprints\n${stdout}\nand not\n${line}`);
  }
}

/** A command that goes on until it is stopped: waits for what it is to show first. */
async function goesOn(server, { command, expected }) {
  const inbox = new Inbox();
  const child = spawn("bash", ["-c", `exec ${here(server, command)}`], { stdio: ["ignore", "pipe", "ignore"] });
  createInterface({ input: child.stdout }).on("line", (line) => inbox.push(line));
  for (const line of expected) {
    let got;
    do got = await inbox.next(line);
    while (!got.startsWith(line));
  }
  return child;
}

for (const page of ["README.md", "docs/getting-started.md", "docs/http.md", "docs/data-model.md", "docs/operations.md", "docs/mqtt.md"]) {
  test(`the examples of ${page} print what it says`, async () => {
    const server = await Server.start();
    await server.printed;
    const streams = [];
    try {
      for (const example of commands(page)) {
        if (example.command.startsWith("curl -N ")) streams.push(await goesOn(server, example));
        else await ends(server, example);
      }
    } finally {
      streams.forEach((child) => child.kill());
      await server.stop();
    }
  });
}

test("the README's lines of JavaScript show what is written", async () => {
  const server = await Server.start();
  await server.put("/sensors/341", { temp: 21.5 });
  const [source] = blocks("README.md", "js");
  const seen = new Inbox();
  const opened = [];
  const remember = (Class) =>
    class extends Class {
      constructor(url) {
        super(url);
        opened.push(this);
      }
    };
  new Function("EventSource", "WebSocket", "console", here(server, source))(remember(EventSource), remember(WebSocket), {
    log: (data) => seen.push(JSON.parse(data).value),
  });
  assert.deepEqual([await seen.next("one"), await seen.next("two")], [{ temp: 21.5 }, { temp: 21.5 }]);
  opened.forEach((client) => client.close());
  await server.stop();
});

test("the lines that `dev` prints to paste do what they say", async () => {
  const server = await Server.start();
  const lines = (await server.printed).filter((line) => /^ {2}(curl|node) /.test(line)).map((line) => line.trim());
  assert.equal(lines.length, 3);
  const [put, sse, socket] = lines;
  await ends(server, { command: put, expected: [] });
  const streams = [
    await goesOn(server, { command: sse, expected: ['data: {"type":"put","path":"/sensors/341"'] }),
    await goesOn(server, { command: socket, expected: ['{"type":"put","path":"/sensors/341"'] }),
  ];
  streams.forEach((child) => child.kill());
  await server.stop();
});
