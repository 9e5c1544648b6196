// The demo page in a real browser.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open as openPage, skip } from "./chromium.js";
import { Server, run } from "./server.js";

let server, browser;
before(async () => {
  if (skip) return;
  server = await Server.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A window on the page; what goes wrong in it fails the test. */
const open = (options) => openPage(browser, `${server.url}/`, options);

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

/** The row of a key that is shown. */
function row(page, key) {
  return page.locator('li[role="treeitem"] > .row', { has: page.locator(".key", { hasText: new RegExp(`^${key}$`) }) }).first();
}

/** Asks curl until it answers so: the edit is on its way. */
async function curlSees(path, expected) {
  for (let tries = 0; tries < 100; tries++) {
    const { stdout } = await run("curl", ["-s", server.url + path]);
    if (stdout.trim() === expected) return;
  }
  assert.fail(`curl never saw ${expected} at ${path}`);
}

test("an edit inside reaches curl", { skip }, async () => {
  await server.put("/demo-edit", "before");
  const { page, wrong } = await open();
  await row(page, "demo-edit").locator(".value").dblclick();
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.type("after");
  await page.keyboard.press("Enter");
  await curlSees("/demo-edit", '"after"');
  assert.deepEqual(wrong, []);
  await page.context().close();
});

test("a level loads when it is opened, and then follows", { skip }, async () => {
  await server.put("/demo-rooms/kitchen", { lamp: "off" });
  const { page, wrong } = await open();
  await row(page, "demo-rooms").locator(".twisty").click();
  await row(page, "kitchen").locator(".twisty").click();
  await row(page, "lamp").waitFor();
  await server.put("/demo-rooms/kitchen/lamp", "on");
  await row(page, "lamp").getByText("on").waitFor();
  await server.put("/demo-rooms/bath", { lamp: "dim" });
  await row(page, "bath").waitFor();
  assert.deepEqual(wrong, []);
  await page.context().close();
});

test("the page is usable in the dark and on a phone", { skip }, async () => {
  await server.put("/demo-phone", "here");
  const { page, wrong } = await open({ colorScheme: "dark", viewport: { width: 360, height: 740 }, hasTouch: true });
  await row(page, "demo-phone").waitFor();
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(overflow <= 0, `it is ${overflow} px wider than the phone`);
  const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
  assert.ok(dark[0] + dark[1] + dark[2] < 200, `the background is ${dark}`);
  assert.deepEqual(wrong, []);
  await page.context().close();
});

test("a name that looks like markup is a name", { skip }, async () => {
  const name = "<img src=x onerror=alert(1)>";
  await server.put(`/${encodeURIComponent(name)}`, "<b>bold</b>");
  const { page, wrong } = await open();
  await page.getByText(name).first().waitFor();
  assert.equal(await page.locator('#tree img, #tree b').count(), 0);
  assert.deepEqual(wrong, []);
  await page.context().close();
});
