// Reads levels from the server and joins them with the events that arrive meanwhile.

import { parseVersion } from "./demo-live.js";
import { urlOf } from "./demo-path.js";
import { ABSENT, Scanner } from "./demo-scan.js";

/** How often one level is read again at most, while changes come that only the server can explain. */
const REREAD_MS = 500;
const READS_AT_ONCE = 4;
/** While a long read goes on, what has come so far is shown this often. */
const PROGRESS_MS = 250;
/** More events than this during one read, and the level is read again instead. */
const EVENTS_KEPT = 2000;

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(status, problem) {
    const { title, detail, hint } = problem;
    super([detail ?? title ?? `the server answered ${status}`, hint].filter(Boolean).join(" "));
    this.status = status;
  }

  static async from(answer) {
    const problem = await answer.json().catch(() => ({}));
    return new Refused(answer.status, problem ?? {});
  }
}

/** Reads the value at `path`, at most `limit` of its children, and breaks off there. */
async function readSketch(path, limit, onProgress) {
  const abort = new AbortController();
  const answer = await fetch(urlOf(path), {
    headers: { Accept: "application/json" },
    cache: "no-store",
    signal: abort.signal,
  });
  const { seq } = parseVersion(answer.headers.get("Sapwood-Version"));
  try {
    if (answer.status === 404) return { sketch: ABSENT, seq };
    if (!answer.ok) throw await Refused.from(answer);
    const type = answer.headers.get("Content-Type") ?? "";
    if (!type.startsWith("application/json")) {
      const size = Number(answer.headers.get("Content-Length") ?? 0);
      return { sketch: { ...ABSENT, kind: "bytes", text: type, size }, seq };
    }
    return { sketch: await scanBody(answer.body, limit, (sketch) => onProgress(sketch, seq)), seq };
  } finally {
    abort.abort();
  }
}

async function scanBody(body, limit, onProgress) {
  const scanner = new Scanner(limit);
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let shown = performance.now();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return scanner.end();
    if (scanner.push(value)) return scanner.result;
    if (performance.now() - shown > PROGRESS_MS) {
      onProgress({ ...scanner.result, complete: false });
      shown = performance.now();
    }
  }
}

/** The reads of one tree: which are under way, which wait, and the events that they must not miss. */
export class Reads {
  #tree;
  #base;
  #report;
  #jobs = new Map();
  #waiting = new Set();
  #timer = 0;

  /** `base` is the path of the tree's root. Reports `reading(node, isReading)` and `failed(node, error)`. */
  constructor(tree, base, report) {
    this.#tree = tree;
    this.#base = base;
    this.#report = report;
  }

  /** Asks for `node` to be read (again), soon. */
  want(node) {
    this.#waiting.add(node);
    this.#pump();
  }

  /** Hands on an event that was just applied, for the levels that are being read. */
  saw(type, path, sketch, seq) {
    for (const job of this.#jobs.values()) {
      if (!job.path.every((segment, i) => path[i] === segment)) continue;
      if (job.events.length < EVENTS_KEPT) job.events.push([type, path, sketch, seq]);
      else job.again = true;
    }
  }

  #pump() {
    clearTimeout(this.#timer);
    let soonest = Infinity;
    for (const node of this.#waiting) {
      const wait = (node.readAt ?? -Infinity) + REREAD_MS - performance.now();
      if (this.#jobs.has(node) || this.#jobs.size >= READS_AT_ONCE) continue;
      if (wait > 0) {
        soonest = Math.min(soonest, wait);
        continue;
      }
      this.#waiting.delete(node);
      if (this.#isLoaded(node)) this.#read(node);
    }
    if (soonest < Infinity) this.#timer = setTimeout(() => this.#pump(), soonest);
  }

  #isLoaded(node) {
    return this.#tree.find(node.path).node === node;
  }

  async #read(node) {
    const job = { path: node.path, events: [], again: false };
    this.#jobs.set(node, job);
    this.#report.reading(node, true);
    try {
      const limit = node.open ? node.limit : 8;
      const { sketch, seq } = await readSketch([...this.#base, ...job.path], limit, (partial, at) => {
        if (this.#isLoaded(node) && node.asOf <= at) this.#tree.load(node, partial, at, false);
      });
      this.#join(node, job, sketch, seq);
    } catch (error) {
      this.#report.failed(node, error);
    }
    node.readAt = performance.now();
    this.#jobs.delete(node);
    this.#report.reading(node, false);
    if (job.again) this.#waiting.add(node);
    this.#pump();
  }

  #join(node, job, sketch, seq) {
    if (!this.#isLoaded(node)) return;
    // Something above was written behind what we read.
    if (node.asOf > seq && !job.events.some(([, path]) => path.length === job.path.length)) {
      job.again = true;
      return;
    }
    this.#tree.load(node, sketch, seq);
    for (const event of job.events) this.#tree.apply(...event, true);
  }
}
