// Reads JSON text piece by piece and keeps a sketch of it that is bounded whatever the text's size.
//
// A sketch is { key, kind, text, cut, size, children, complete }. `kind` is null, boolean, number, string, bytes, array,
// map, or absent. `text` is a number's source, a string's first characters (`cut` says that there are more), or the
// media type of bytes. `children` is the sketches of the first children in the order of the text, and `complete` says
// that it holds all of them.

/** How many children are kept by depth, beyond the limit that the caller gives for the top. */
const CHILDREN_KEPT = [8, 4];
/** How many characters of a string are kept at the top and right below it, and how many deeper. */
const CHARS_KEPT = 4096;
const CHARS_KEPT_DEEP = 64;

export const ABSENT = Object.freeze({ key: "", kind: "absent", text: "", cut: false, size: 0, children: [], complete: true });

function sketch(kind, key = "") {
  return { key, kind, text: "", cut: false, size: 0, children: [], complete: true };
}

/** A pull parser turned round: `push` text until it returns true. Throws SyntaxError at what is not JSON. */
export class Scanner {
  #text = "";
  #at = 0;
  #ended = false;
  #limit;
  #steps;

  /** Keeps at most `limit` children of the value itself, and stops reading at the first one more. */
  constructor(limit) {
    this.#limit = limit;
    this.#steps = this.#top();
    this.result = sketch("map");
  }

  push(text) {
    this.#text = this.#text.slice(this.#at) + text;
    this.#at = 0;
    return this.#steps.next().done;
  }

  end() {
    this.#ended = true;
    if (!this.#steps.next().done) throw new SyntaxError("the text ends too early");
    return this.result;
  }

  *#top() {
    yield* this.#value(0, this.result);
  }

  *#more() {
    if (this.#ended) throw new SyntaxError("the text ends too early");
    yield;
  }

  /** The next character that is not white space, not yet taken. */
  *#peek() {
    for (;;) {
      while (this.#at < this.#text.length) {
        const c = this.#text[this.#at];
        if (c !== " " && c !== "\n" && c !== "\r" && c !== "\t") return c;
        this.#at++;
      }
      yield* this.#more();
    }
  }

  *#take(expected) {
    const c = yield* this.#peek();
    if (c !== expected) throw new SyntaxError(`${expected} expected, found ${c}`);
    this.#at++;
  }

  /** Reads one value into `into`. */
  *#value(depth, into) {
    const c = yield* this.#peek();
    if (c === "{" || c === "[") {
      yield* this.#container(depth, into, c === "[");
    } else if (c === '"') {
      into.kind = "string";
      yield* this.#string(depth > 1 ? CHARS_KEPT_DEEP : CHARS_KEPT, into);
    } else {
      yield* this.#literal(into);
    }
    return into;
  }

  *#container(depth, into, isArray) {
    into.kind = isArray ? "array" : "map";
    const close = isArray ? "]" : "}";
    const limit = depth === 0 ? this.#limit : (CHILDREN_KEPT[depth - 1] ?? 0);
    this.#at++;
    if ((yield* this.#peek()) === close) return void this.#at++;
    for (let index = 0; ; index++) {
      if (index >= limit) {
        into.complete = false;
        if (depth > 0) yield* this.#skip(1);
        return;
      }
      const key = isArray ? String(index) : yield* this.#key();
      if (key === ".bytes" && !isArray) {
        into.kind = "bytes";
        const data = yield* this.#string(0, sketch("string"));
        into.size = Math.floor(data.size * 3 / 4);
      } else if (into.kind === "bytes" && key === ".type") {
        into.text = (yield* this.#string(CHARS_KEPT_DEEP, sketch("string"))).text;
      } else {
        into.children.push(yield* this.#value(depth + 1, sketch("null", key)));
      }
      if ((yield* this.#peek()) === close) return void this.#at++;
      yield* this.#take(",");
    }
  }

  *#key() {
    const { text } = yield* this.#string(CHARS_KEPT, sketch("string"));
    yield* this.#take(":");
    return text;
  }

  *#literal(into) {
    let text = "";
    for (;;) {
      const start = this.#at;
      while (this.#at < this.#text.length && !/[\s,\]}]/.test(this.#text[this.#at])) this.#at++;
      text += this.#text.slice(start, this.#at);
      if (this.#at < this.#text.length || this.#ended) break;
      yield;
    }
    if (text === "null") into.kind = "null";
    else if (text === "true" || text === "false") into.kind = "boolean";
    else if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text)) into.kind = "number";
    else throw new SyntaxError(`${text.slice(0, 20)} is no value`);
    into.text = text;
  }

  /** Reads a string, keeps its first `kept` characters (as written, before escapes are undone), counts the rest. */
  *#string(kept, into) {
    yield* this.#take('"');
    let raw = "";
    let escaped = false;
    for (;;) {
      const start = this.#at;
      let at = start;
      let closed = false;
      for (const text = this.#text; at < text.length; at++) {
        const c = text.charCodeAt(at);
        if (escaped) escaped = false;
        else if (c === 92) escaped = true;
        else if (c === 34) {
          closed = true;
          break;
        }
      }
      into.size += at - start;
      if (raw.length < kept) raw += this.#text.slice(start, Math.min(at, start + kept - raw.length));
      this.#at = at;
      if (closed) break;
      yield* this.#more();
    }
    this.#at++;
    into.cut = into.size > kept;
    into.text = unescape(into.cut ? withoutHalfEscape(raw) : raw);
    return into;
  }

  /** Skips to behind the end of the container that is open `depth` levels up. */
  *#skip(depth) {
    let [inString, escaped] = [false, false];
    for (;;) {
      const text = this.#text;
      let at = this.#at;
      for (; at < text.length && depth > 0; at++) {
        const c = text.charCodeAt(at);
        if (escaped) escaped = false;
        else if (inString) {
          if (c === 92) escaped = true;
          else if (c === 34) inString = false;
        } else if (c === 34) inString = true;
        else if ((c & 0xdf) === 0x5b) depth++; // [ and {
        else if ((c & 0xdf) === 0x5d) depth--; // ] and }
      }
      this.#at = at;
      if (depth === 0) return;
      yield* this.#more();
    }
  }
}

function withoutHalfEscape(raw) {
  const slashes = /\\*$/.exec(raw)[0].length;
  if (slashes % 2 === 1) return raw.slice(0, -1);
  const half = /\\u[0-9a-fA-F]{0,3}$/.exec(raw);
  return half && /(^|[^\\])(\\\\)*$/.test(raw.slice(0, half.index)) ? raw.slice(0, half.index) : raw;
}

function unescape(raw) {
  return raw.includes("\\") ? JSON.parse(`"${raw}"`) : raw;
}

/** The sketch of a whole JSON text. */
export function scan(text, limit) {
  const scanner = new Scanner(limit);
  if (!scanner.push(text)) scanner.end();
  return scanner.result;
}

const HEAD = /^\s*\{(?:\s*"(?:type|path|id|version)"\s*:\s*"(?:[^"\\]|\\.)*"\s*,)*\s*"value"\s*:/;
const TAIL = /"version"\s*:\s*"([^"\\]*)"\s*\}\s*$/;

/** An event of the stream, `{type, path, version, value}`, its value a sketch (undefined where there is none). */
export function scanEvent(text, limit) {
  const head = HEAD.exec(text)?.[0];
  if (head === undefined) {
    const event = JSON.parse(text);
    return { ...event, value: event.value === undefined ? undefined : scan(JSON.stringify(event.value), limit) };
  }
  const members = JSON.parse(head.slice(0, head.lastIndexOf('"value"')).replace(/,\s*$/, "") + "}");
  // The version follows the value, and is short.
  const version = members.version ?? TAIL.exec(text.slice(-200))?.[1];
  return { ...members, version, value: scan(text.slice(head.length), limit) };
}

/** JSON text laid out over lines, every scalar spelled as it was. */
export function indented(text) {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  let out = "";
  let depth = 0;
  tokens.forEach((token, i) => {
    const line = () => "\n" + "  ".repeat(depth);
    const closes = token === "}" || token === "]";
    const isEmpty = closes && /[{[]/.test(tokens[i - 1]);
    if (closes) depth--;
    out += closes && !isEmpty ? line() + token : token;
    if (token === "{" || token === "[") {
      depth++;
      if (!/[}\]]/.test(tokens[i + 1])) out += line();
    } else if (token === ",") out += line();
    else if (token === ":") out += " ";
  });
  return out;
}
