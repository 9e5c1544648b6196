// Debian's mosquitto, the broker, on a free port of its own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export class Mosquitto {
  /** Starts it with these further lines of mosquitto.conf; it keeps its data over stop and start. */
  static async start(...lines) {
    const broker = new Mosquitto();
    broker.folder = await mkdtemp(join(tmpdir(), "sapwood-mosquitto-"));
    broker.port = await freePort();
    broker.url = `mqtt://127.0.0.1:${broker.port}`;
    broker.address = ["-h", "127.0.0.1", "-p", String(broker.port)];
    broker.conf = join(broker.folder, "mosquitto.conf");
    const own = [
      `listener ${broker.port} 127.0.0.1`,
      "allow_anonymous true",
      "user root",
      "persistence true",
      `persistence_location ${broker.folder}/`,
      "max_queued_messages 10000",
    ];
    await writeFile(broker.conf, [...own, ...lines, ""].join("\n"));
    await broker.startAgain();
    return broker;
  }

  async startAgain() {
    this.log = "";
    this.process = spawn("mosquitto", ["-v", "-c", this.conf], { stdio: ["ignore", "ignore", "pipe"] });
    this.process.stderr.on("data", (text) => (this.log += text));
    await until("mosquitto listens", () => listens(this.port));
  }

  /** Ends it in good order: it writes down what it keeps. */
  async stop() {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const ended = once(this.process, "exit");
      this.process.kill("SIGTERM");
      await ended;
    }
  }

  async remove() {
    await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Waits until something holds, ten seconds at most. */
export async function until(what, holds) {
  const end = Date.now() + 10_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited ten seconds until ${what}`);
    await sleep(20);
  }
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function listens(port) {
  return new Promise((done) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => done(true));
    socket.on("error", () => done(false));
    socket.on("connect", () => socket.destroy());
  });
}
