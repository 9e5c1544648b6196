// Paths are arrays of segments. Here is how they are spelled in URLs and events, and the order of keys.

const FORMAT_ENDING = /\.(json|cbor|msgpack)$/;

/** The URL path of `segments`: percent-encoded, over the door's own escapes of what a URL can't say. */
export function urlOf(segments) {
  const last = segments.length - 1;
  return "/" + segments.map((segment, i) => encodeURIComponent(escapeSegment(segment, i === last))).join("/");
}

function escapeSegment(segment, isLast) {
  if (/^~*$/.test(segment)) return segment + "~";
  const escaped = segment.replace(/%(?=(?:25)*2E)/g, "%25");
  if (segment === "." || segment === "..") return segment.replaceAll(".", "%2E");
  return isLast ? escaped.replace(FORMAT_ENDING, "%2E$1") : escaped;
}

/** The segments of an event's `path`, which is absolute and plain. */
export function segmentsOf(path) {
  return path === "/" || path === "" ? [] : path.replace(/^\//, "").split("/").map(unescapeTildes);
}

/** How a person reads `segments`; `segmentsOf` takes it back. */
export function plainOf(segments) {
  return "/" + segments.map((segment) => (/^~*$/.test(segment) ? segment + "~" : segment)).join("/");
}

/** The fragment that names a path in this page's own address, and back. */
export function fragmentOf(segments) {
  return "#" + plainOf(segments).split("/").map(encodeURIComponent).join("/");
}

export function pathOfFragment(fragment) {
  try {
    return segmentsOf(fragment.slice(1).split("/").map(decodeURIComponent).join("/"));
  } catch {
    return [];
  }
}

function unescapeTildes(segment) {
  return /^~+$/.test(segment) ? segment.slice(1) : segment;
}

/** A key of a JSON document as the segment that it stands for: the reserved names arrive escaped. */
export function segmentOfKey(key) {
  return key.replace(/^%((?:25)*)2E(?=(?:bytes|type|value|priority|sv)$)/, (_, more) =>
    more ? "%" + more.slice(2) + "2E" : ".");
}

/** Whether a key can be a segment of a path. Keys that can't are read with their document. */
export function isSegment(key) {
  return !key.includes("/") && !key.includes("\0") && new TextEncoder().encode(key).length <= 768;
}

const INTEGER_KEY = /^-?0*\d{1,10}$/;

function integerOf(key) {
  if (!INTEGER_KEY.test(key)) return null;
  const n = Number(key);
  return n >= -2147483648 && n <= 2147483647 ? n : null;
}

/** The order of children: integer keys by number, then all others by UTF-16 code unit. */
export function compareKeys(a, b) {
  const [m, n] = [integerOf(a), integerOf(b)];
  if (m !== null && n !== null) return m - n || a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
  if (m !== null) return -1;
  if (n !== null) return 1;
  return a < b ? -1 : a > b ? 1 : 0;
}
