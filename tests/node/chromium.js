// Debian's Chromium, driven by npm `playwright-core`.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Why tests with a browser are skipped, if they are. */
export const skip = existsSync(executablePath) ? false : `there is no ${executablePath}: install the Debian package chromium`;

/** A browser without a window. */
export function launch() {
  return chromium.launch({
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
}

/** A page in a window of its own; what goes wrong in it is kept in `wrong`. */
export async function open(browser, url, options = {}) {
  const page = await (await browser.newContext(options)).newPage();
  page.setDefaultTimeout(15_000);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  await page.goto(url);
  return { page, wrong };
}
