// The page's one WebSocket: connects behind the newest commit, resumes after a break, backs off while it can't.

import { scanEvent } from "./demo-scan.js";
import { urlOf } from "./demo-path.js";

const RETRY_FIRST_MS = 400;
const RETRY_MAX_MS = 15_000;
/** How many children of an event's value are read. The tree asks for what an event doesn't show. */
const CHILDREN_READ = 500;

/** The log id and the commit sequence of `<log id>.<sequence>` or `<log id>.<sequence>.<k>`. */
export function parseVersion(version) {
  const [log, seq] = (version ?? "").split(".");
  return { log, seq: Number(seq) };
}

/**
 * Follows the tree events at and below `path`.
 *
 * Calls `onState("connecting" | "live" | "waiting", seconds)`, `onEvent(event, seq)`, and `onFresh()` whenever what
 * was known is no longer a base for the events that follow: at the start, and where the server can't resume.
 */
export class Live {
  #path;
  #on;
  #socket = null;
  #timer = 0;
  #failures = 0;
  #stopped = false;
  #version = null;

  constructor(path, on) {
    this.#path = path;
    this.#on = on;
    this.#connect();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  /** Tries at once if it is waiting, as when the network comes back. */
  retry() {
    if (this.#timer) this.#connect();
  }

  async #connect() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#on.onState("connecting");
    try {
      const now = await newestVersion(this.#path);
      if (this.#stopped) return;
      if (parseVersion(now).log !== parseVersion(this.#version).log) {
        this.#version = now;
        this.#on.onFresh();
      }
      this.#open();
    } catch {
      this.#wait();
    }
  }

  #open() {
    const url = new URL(urlOf(this.#path), location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = `?since=${this.#version}&events=tree`;
    const socket = (this.#socket = new WebSocket(url));
    socket.onopen = () => {
      this.#failures = 0;
      this.#on.onState("live");
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = () => {
      if (socket === this.#socket && !this.#stopped) this.#wait();
    };
  }

  #receive(text) {
    const event = scanEvent(text, CHILDREN_READ);
    if (event.type === "reset") {
      // The whole tree would follow. What is open is enough: start again behind the newest commit.
      this.#version = null;
      this.#socket.onmessage = null;
      this.#socket.close();
      return;
    }
    if (event.version) this.#version = event.version;
    if (event.type) this.#on.onEvent(event, event.version ? parseVersion(event.version).seq : Infinity);
  }

  #wait() {
    this.#socket = null;
    if (this.#stopped) return;
    const pause = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#failures++) * (0.75 + Math.random() / 2);
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#on.onState("waiting", Math.ceil(pause / 1000));
  }
}

async function newestVersion(path) {
  const answer = await fetch(urlOf(path), { method: "HEAD", headers: { Accept: "application/json" }, cache: "no-store" });
  const version = answer.headers.get("Sapwood-Version");
  if (!version) throw new Error(`${answer.status} without a version`);
  return version;
}
