// The real binary on a free port, with a data folder of its own.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const binary = process.env.TESTED_BINARY ?? resolve(import.meta.dirname, "../../target/release/sapwood");

export class Server {
  /** Starts `sapwood dev` with these further arguments. */
  static async start(...args) {
    const server = new Server();
    server.folder = await mkdtemp(join(tmpdir(), "sapwood-test-"));
    server.args = args;
    server.port = 0;
    await server.startAgain();
    return server;
  }

  /** Starts it on the same folder and, as clients come back to it, the same ports. */
  async startAgain() {
    const http = `127.0.0.1:${this.port}`;
    const data = join(this.folder, "data");
    const mqtt = `:${this.mqtt ? new URL(this.mqtt).port : 0}`;
    this.process = spawn(binary, ["dev", "--data", data, "--http", http, "--mqtt", mqtt, ...this.args], {
      cwd: this.folder,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.log = "";
    this.mqtt = undefined;
    this.process.stderr.on("data", (text) => (this.log += text));
    const lines = createInterface({ input: this.process.stdout });
    const printed = [];
    // The line that tells what an answer means is the last that every start prints.
    this.printed = new Promise((done) =>
      lines.on("line", (line) => {
        printed.push(line);
        this.mqtt ??= line.match(/^mqtt:\/\/\S+/)?.[0];
        if (line.includes("durability")) done(printed);
      }),
    );
    const [line] = await Promise.race([
      once(lines, "line"),
      once(this.process, "exit").then(() => Promise.reject(new Error(`the server didn't start:\n${this.log}`))),
    ]);
    this.url = new URL(line.match(/http:\/\/\S+/)[0]).origin;
    this.port = new URL(this.url).port;
    this.ws = this.url.replace("http", "ws");
  }

  /** Ends it with a signal and tells the exit code. */
  async end(signal = "SIGTERM") {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return this.process.exitCode;
    const ended = once(this.process, "exit");
    this.process.kill(signal);
    const [code] = await ended;
    return code;
  }

  async stop() {
    await this.end("SIGKILL");
    await rm(this.folder, { recursive: true, force: true });
  }

  /** fetch of a path here. */
  fetch(path, options = {}) {
    return fetch(this.url + path, options);
  }

  /** PUT of JSON, which must be taken. */
  async put(path, value) {
    const answer = await this.fetch(path, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
    });
    if (!answer.ok) throw new Error(`PUT ${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  }

  /** GET of JSON. */
  async get(path) {
    return (await this.fetch(path)).json();
  }
}

/** Things that happen, to be awaited one by one in their order. */
export class Inbox {
  #items = [];
  #waiting = [];

  push(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#items.push(item);
  }

  next(what = "something") {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    return new Promise((done, failed) => {
      const timer = setTimeout(() => failed(new Error(`waited ten seconds for ${what}`)), 10_000);
      this.#waiting.push((item) => {
        clearTimeout(timer);
        done(item);
      });
    });
  }

  get length() {
    return this.#items.length;
  }
}

/** Runs a program: `{ code, stdout, stderr }`. */
export function run(program, args, options = {}) {
  return new Promise((done) => {
    execFile(program, args, { timeout: 30_000, ...options }, (error, stdout, stderr) => {
      done({ code: error ? (error.code ?? 1) : 0, stdout, stderr });
    });
  });
}
