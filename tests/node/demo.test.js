// The demo page in a real browser: Debian's Chromium, driven by npm `playwright-core`.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { Server } from "./server.js";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const skip = existsSync(executablePath) ? false : `there is no ${executablePath}: install the Debian package chromium`;

let server, browser;
before(async () => {
  if (skip) return;
  server = await Server.start();
  browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A window on the page; what goes wrong in it fails the test. */
async function open(options = {}) {
  const page = await (await browser.newContext(options)).newPage();
  page.setDefaultTimeout(15_000);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  await page.goto(`${server.url}/`);
  return { page, wrong };
}

test("a PUT outside shows inside, in both windows", { skip }, async () => {
  const [one, two] = [await open(), await open()];
  await server.put("/demo-outside", "first light");
  for (const { page } of [one, two]) await page.getByText("first light").first().waitFor();
  await server.put("/demo-outside", "second light");
  for (const { page, wrong } of [one, two]) {
    await page.getByText("second light").first().waitFor();
    assert.deepEqual(wrong, []);
    await page.context().close();
  }
});
