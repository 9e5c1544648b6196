// What is loaded of the tree, and how an event changes it.
//
// Each node holds a window of its children: the first ones in key order, all of them if `complete`. So a key that
// sorts before the last one in the window and isn't there does not exist; of one behind it nothing is known.

import { compareKeys, segmentOfKey } from "./demo-path.js";
import { ABSENT } from "./demo-scan.js";

/** How many children a closed node keeps, for its preview. */
const CHILDREN_CLOSED = 8;
/** How many more children an open node takes by events than were asked for, before the window stops growing. */
const CHILDREN_SLACK = 300;

export class Node {
  constructor(key, parent) {
    this.key = key;
    this.parent = parent;
    this.kind = "absent";
    this.text = "";
    this.cut = false;
    this.size = 0;
    this.children = [];
    this.complete = true;
    this.open = false;
    /** How many children are asked for while it is open. */
    this.limit = 0;
    /** The commit sequence as of which this node is known; events up to it are in it already. */
    this.asOf = -1;
    /** Whether the window was taken from a sketch that kept too little of it. */
    this.isPartial = false;
    /** Changes behind the end of the window since it was loaded. */
    this.unseen = 0;
  }

  get isContainer() {
    return isContainer(this);
  }

  get path() {
    return this.parent ? [...this.parent.path, this.key] : [];
  }

  /** Where `key` is in the window, or the complement of where it would be. */
  indexOf(key) {
    let [low, high] = [0, this.children.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const order = compareKeys(this.children[middle].key, key);
      if (order === 0) return middle;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return ~low;
  }

  child(key) {
    const i = this.indexOf(key);
    return i >= 0 ? this.children[i] : undefined;
  }

  get #windowMax() {
    return this.open ? this.limit + CHILDREN_SLACK : CHILDREN_CLOSED;
  }

  /**
   * Takes over what a sketch says. Open descendants that are still there stay open, with what they showed behind the
   * few children that a sketch keeps of its depths (`isBelow`): they are asked for anew, and must not flicker meanwhile.
   */
  become(sketch, asOf, isBelow = false) {
    const { kind, text, cut, size, complete } = sketch;
    Object.assign(this, { kind, text, cut, size, complete, asOf, unseen: 0 });
    const before = this.children;
    this.children = [];
    let i = 0;
    for (const below of sketch.children) {
      const segment = kind === "map" ? segmentOfKey(below.key) : below.key;
      while (i < before.length && compareKeys(before[i].key, segment) < 0) i++;
      const node = i < before.length && before[i].key === segment ? before[i++] : new Node(segment, this);
      node.become(below, asOf, true);
      this.children.push(node);
    }
    this.isPartial = isBelow && this.open && !complete;
    if (this.isPartial) this.children.push(...before.slice(i).filter((old) => this.indexOf(old.key) === ~this.children.length));
    this.trim();
    if (!this.isContainer) this.open = false;
  }

  /** Adds a child at the index that `indexOf` gave. */
  insert(index, key, sketch, asOf) {
    const node = new Node(key, this);
    node.become(sketch, asOf);
    this.children.splice(index, 0, node);
    this.trim();
    return node;
  }

  /** Shows its children, at least `limit` of them where there are so many. */
  unfold(limit) {
    this.open = true;
    this.limit = limit;
  }

  /** Keeps only what a closed row shows. */
  fold() {
    for (const child of this.children) if (child.open) child.fold();
    this.open = false;
    this.trim();
  }

  trim() {
    if (this.children.length <= this.#windowMax) return;
    this.children.length = this.#windowMax;
    this.complete = false;
  }

  /** Whether the window shows less than an open node should. */
  get isShort() {
    return this.open && (this.isPartial || (!this.complete && this.children.length < this.limit));
  }
}

/**
 * The loaded part of the tree below one path.
 *
 * `apply` and `load` report to the three callbacks: `flash(node, how)` for the deepest loaded node at or above a
 * change, `changed(node)` for each node whose row or level must be drawn again, `stale(node)` for each that only the
 * server can tell.
 */
export class Tree {
  #report;
  #isReplay = false;

  constructor(report) {
    this.#report = report;
    this.root = new Node("", null);
  }

  /** The deepest loaded node at or above `path`, and how many segments lead to it. */
  find(path) {
    let node = this.root;
    let depth = 0;
    for (; depth < path.length; depth++) {
      const child = node.child(path[depth]);
      if (!child) break;
      node = child;
    }
    return { node, depth };
  }

  /** Takes over a freshly read value of `node`, or what has come of it so far. */
  load(node, sketch, asOf, isWhole = true) {
    if (sketch.kind === "absent" && node.parent) return this.#remove(node);
    node.become(sketch, asOf);
    this.#drawn(node);
    this.#drawnBelow(node);
    if (isWhole) this.#refill(node);
  }

  /**
   * Applies an event whose path is given relative to the root of this tree. A replay, behind a level that was read
   * while the event arrived, flashes nothing.
   */
  apply(type, path, sketch, seq, isReplay = false) {
    this.#isReplay = isReplay;
    if (type === "message") return this.#flash(this.find(path).node, "message");
    if (type === "delete") return this.#delete(path, seq);
    if (type === "put") return this.#put(path, sketch, seq);
    if (type === "patch") return this.#patch(path, sketch, seq);
  }

  #patch(path, sketch, seq) {
    for (const child of sketch.children) {
      const below = [...path, segmentOfKey(child.key)];
      if (child.kind === "null") this.#delete(below, seq);
      else this.#put(below, child, seq);
    }
    if (!sketch.complete) this.#report.stale(this.find(path).node);
  }

  #put(path, sketch, seq) {
    let node = this.root;
    for (let i = 0; i < path.length; i++) {
      if (node.asOf >= seq) return;
      if (!node.isContainer && node.kind !== "absent") return this.#ask(node);
      const index = node.indexOf(path[i]);
      if (index < 0) return this.#create(node, ~index, path.slice(i), sketch, seq);
      node = node.children[index];
    }
    if (node.asOf >= seq) return;
    node.become(sketch, seq);
    this.#drawn(node);
    this.#drawnBelow(node);
    this.#refill(node);
    this.#flash(node, "put");
  }

  /** A put below `node` at a path whose first segment the window hasn't. */
  #create(node, index, path, sketch, seq) {
    if (node.kind === "absent") node.kind = "map";
    if (node.kind === "array" && !(node.complete && path[0] === String(node.children.length))) return this.#ask(node);
    if (index === node.children.length && !node.complete) {
      node.unseen++;
      this.#drawn(node);
      return this.#flash(node, "more");
    }
    const value = path.slice(1).reduceRight((below, key) => mapOf(key, below), sketch);
    const created = node.insert(index, path[0], value, seq);
    this.#drawn(node);
    this.#flash(created, "new");
  }

  #delete(path, seq) {
    const { node, depth } = this.find(path);
    for (let above = node; above; above = above.parent) if (above.asOf >= seq) return;
    if (depth < path.length) {
      if (node.isContainer && !node.complete) this.#flash(node, "more");
      return;
    }
    const parent = node.parent;
    if (!parent) {
      node.become(ABSENT, seq);
      this.#drawn(node);
      return this.#flash(node, "delete");
    }
    this.#remove(node);
    this.#flash(parent, "delete");
  }

  #remove(node) {
    const parent = node.parent;
    const index = parent.indexOf(node.key);
    if (parent.children[index] !== node) return;
    parent.children.splice(index, 1);
    this.#drawn(parent);
    // An array closes the gap or turns into a map; a map that nobody spelled out goes with its last key.
    if (parent.kind === "array" || (parent.children.length === 0 && parent.parent)) this.#report.stale(parent);
    else if (parent.isShort) this.#report.stale(parent);
  }

  /** Asks for what an event gave in part only: open nodes below a sketch, which keeps little of its depths. */
  #refill(node) {
    if (node.isShort) this.#report.stale(node);
    for (const child of node.children) if (child.open) this.#refill(child);
  }

  #ask(node) {
    this.#report.stale(node);
    this.#flash(node, "put");
  }

  #flash(node, how) {
    if (!this.#isReplay) this.#report.flash(node, how);
  }

  /** A change shows in the row itself and in the previews of those above. */
  #drawn(node) {
    for (let above = node; above; above = above.parent) this.#report.changed(above);
  }

  /** A new value shows in the rows below, too. */
  #drawnBelow(node) {
    if (!node.open) return;
    for (const child of node.children) {
      this.#report.changed(child);
      this.#drawnBelow(child);
    }
  }
}


function mapOf(key, sketch) {
  return { ...ABSENT, kind: "map", children: [{ ...sketch, key }] };
}

function isContainer({ kind }) {
  return kind === "map" || kind === "array";
}

/** What is known of a node or a sketch in one line, for closed rows: `{temp: 21.5, unit: "C", …}`. */
export function preview(node, depth = 0) {
  if (!isContainer(node)) return scalarText(node, depth > 0 ? 24 : 400);
  const [open, close] = node.kind === "array" ? "[]" : "{}";
  if (node.children.length === 0) return node.complete ? open + close : `${open}…${close}`;
  if (depth > 1) return `${open}…${close}`;
  const kept = depth > 0 ? 2 : CHILDREN_CLOSED;
  const parts = node.children.slice(0, kept).map((child) =>
    node.kind === "array" ? preview(child, depth + 1) : `${child.key}: ${preview(child, depth + 1)}`);
  if (!node.complete || node.children.length > kept) parts.push("…");
  return open + parts.join(", ") + close;
}

/** A value that is no container, as it is shown. */
export function scalarText(node, chars = 400) {
  if (node.kind === "string") {
    const cut = node.cut || node.text.length > chars;
    return `"${node.text.slice(0, chars)}${cut ? "…" : ""}"`;
  }
  if (node.kind === "bytes") return `${node.text || "bytes"}, ${sizeText(node.size)}`;
  return node.kind === "absent" ? "nothing here" : node.text;
}

function sizeText(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
