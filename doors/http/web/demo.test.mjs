// The modules that need no browser. Run by `node --test doors/http/web/`.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

/** The page's files are modules for a browser, whatever a package.json above them says. */
async function load(name) {
  let text = await readFile(new URL(name, import.meta.url), "utf8");
  for (const [found, other] of text.matchAll(/from "\.\/([a-z-]+\.js)"/g)) {
    text = text.replace(found, `from "${(await load(other)).url}"`);
  }
  const url = `data:text/javascript;base64,${Buffer.from(text).toString("base64")}`;
  return { url, ...(await import(url)) };
}

const { urlOf, segmentsOf, plainOf, fragmentOf, pathOfFragment, segmentOfKey, compareKeys } = await load("demo-path.js");
const { scan, scanEvent, Scanner, indented } = await load("demo-scan.js");
const { Tree, preview } = await load("demo-tree.js");

function treeOf(json, { open = [], limit = 100 } = {}) {
  const said = { flashes: [], stale: new Set() };
  const tree = new Tree({
    flash: (node, how) => said.flashes.push([node.path.join("/"), how]),
    changed: () => {},
    stale: (node) => said.stale.add(node.path.join("/")),
  });
  tree.root.unfold(limit);
  tree.load(tree.root, scan(json, limit), 10);
  for (const path of open) tree.find(path.split("/")).node.unfold(limit);
  const apply = (type, path, json, seq = 11) =>
    tree.apply(type, segmentsOf(path), json === undefined ? undefined : scan(json, 500), seq);
  return { tree, said, apply, shown: () => plain(tree.root) };
}

/** What a node shows, as a plain value. */
function plain(node) {
  if (node.kind === "map") return Object.fromEntries(node.children.map((child) => [child.key, plain(child)]));
  if (node.kind === "array") return node.children.map(plain);
  return node.kind === "string" ? node.text : node.kind === "absent" ? undefined : JSON.parse(node.text);
}

test("a URL spells each segment so that the server reads it back", () => {
  assert.equal(urlOf([]), "/");
  assert.equal(urlOf(["a b", "ü/"]), "/a%20b/%C3%BC%2F");
  assert.equal(urlOf(["", "~"]), "/~/~~");
  assert.equal(urlOf([".", ".."]), "/%252E/%252E%252E");
  assert.equal(urlOf(["report.json"]), "/report%252Ejson");
  assert.equal(urlOf(["report.json", "x"]), "/report.json/x");
  assert.equal(urlOf(["50%"]), "/50%25");
});

test("an event's path and the page's own fragment are read back as written", () => {
  for (const path of [[], ["a"], ["a", "b c", "ü%"], ["", "~", "~~"], ["#", "?"]]) {
    assert.deepEqual(segmentsOf(plainOf(path)), path);
    assert.deepEqual(pathOfFragment(fragmentOf(path)), path);
  }
});

test("a reserved name among a document's keys is a segment with a dot", () => {
  assert.equal(segmentOfKey("%2Evalue"), ".value");
  assert.equal(segmentOfKey("%252Evalue"), "%2Evalue");
  assert.equal(segmentOfKey("%2Eother"), "%2Eother");
});

test("integer keys come first and by number", () => {
  const keys = ["b", "10", "a", "9", "-1", "01", "1", "2147483648", "é"];
  assert.deepEqual(keys.sort(compareKeys), ["-1", "1", "01", "9", "10", "2147483648", "a", "b", "é"]);
});

test("a scan gives the same sketch wherever the text is cut", () => {
  const text = '{"a": [1, -2.5e3, {"x\\"y": "\\u00e9\\\\"}], "b": {"c": null, "d": true}, "e": "text", "f": {}}';
  const whole = scan(text, 10);
  for (let cut = 1; cut < text.length; cut++) {
    const scanner = new Scanner(10);
    scanner.push(text.slice(0, cut));
    if (!scanner.push(text.slice(cut))) scanner.end();
    assert.deepEqual(scanner.result, whole, `cut at ${cut}`);
  }
  assert.deepEqual(plain(whole), { a: [1, -2500, { 'x"y': "é\\" }], b: { c: null, d: true }, e: "text", f: {} });
});

test("a scan stops at its limit, and skips what lies deep", () => {
  const scanner = new Scanner(2);
  assert.equal(scanner.push('{"a": {"b": {"c": {"d": "]}"}}}, "b": 2, '), true);
  assert.equal(scanner.result.complete, false);
  assert.equal(preview(scanner.result), "{a: {b: {…}}, b: 2, …}");
});

test("a long string is kept in part, and never ends within an escape", () => {
  const { kind, cut, text } = scan(JSON.stringify("\\\u0001".repeat(5000)), 1);
  assert.equal(kind, "string");
  assert.equal(cut, true);
  assert.ok("\\\u0001".repeat(5000).startsWith(text) && text.length > 500);
});

test("what is no JSON is refused", () => {
  for (const text of ["", "{", "[1,]", "{1:2}", '"a', "nul", "01", "[1 2]"]) {
    assert.throws(() => scan(text, 10), SyntaxError, text);
  }
});

test("numbers keep their spelling", () => {
  assert.equal(preview(scan("[9007199254740993, 1.0]", 10)), "[9007199254740993, 1.0]");
  assert.equal(indented('{"a":[1.0,{}],"b":[]}'), '{\n  "a": [\n    1.0,\n    {}\n  ],\n  "b": []\n}');
});

test("an event's version is found before and behind its value", () => {
  const value = '{"version": "no"}';
  for (const text of [`{"type":"put","path":"/a","value":${value},"version":"x.7"}`, `{"type":"put","version":"x.7","path":"/a","value":${value}}`]) {
    const event = scanEvent(text, 10);
    assert.deepEqual([event.type, event.path, event.version, preview(event.value)], ["put", "/a", "x.7", '{version: "no"}']);
  }
  assert.equal(scanEvent('{"type":"message","path":"/a","value":{"version":"1"}}', 10).version, undefined);
  assert.equal(scanEvent('{"type":"delete","path":"/a","version":"x.7"}', 10).value, undefined);
});

test("puts, patches and deletes change what is shown, in key order", () => {
  const { apply, shown, said } = treeOf('{"b": {"x": 1}}', { open: ["b"] });
  apply("put", "/a", "1");
  apply("put", "/b/y/z", "2", 12);
  apply("patch", "/b", '{"w": 3, "x": null}', 13);
  assert.deepEqual(shown(), { a: 1, b: { w: 3, y: { z: 2 } } });
  apply("delete", "/b/y", undefined, 14);
  assert.deepEqual(shown(), { a: 1, b: { w: 3 } });
  assert.deepEqual(said.flashes, [["a", "new"], ["b/y", "new"], ["b/w", "new"], ["b", "delete"], ["b", "delete"]]);
  assert.equal(said.stale.size, 0);
});

test("an event that a level holds already changes nothing", () => {
  const { apply, shown } = treeOf('{"a": 2}');
  apply("put", "/a", "1", 10);
  apply("delete", "/a", undefined, 9);
  assert.deepEqual(shown(), { a: 2 });
});

test("a window takes what sorts into it, and only counts what lies behind it", () => {
  const { tree, apply } = treeOf('{"a": 1, "c": 1, "e": 1}', { limit: 2 });
  apply("put", "/b", "1");
  apply("put", "/d", "1", 12);
  assert.deepEqual(tree.root.children.map(({ key }) => key), ["a", "b", "c"]);
  assert.equal(tree.root.unseen, 1);
  assert.equal(tree.root.complete, false);
});

test("what only the server knows is asked for", () => {
  const { apply, said } = treeOf('{"array": [1, 2], "map": {"x": 1}, "scalar": 1}');
  apply("put", "/array/7", "1");
  apply("delete", "/map/x", undefined, 12);
  apply("put", "/scalar/x", "1", 13);
  assert.deepEqual([...said.stale], ["array", "map", "scalar"]);
});

test("an open level keeps its rows while a write above it is read again", () => {
  const many = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i + 10}`, i]));
  const { tree, apply, said } = treeOf(JSON.stringify({ a: {} }), { open: ["a"] });
  tree.load(tree.find(["a"]).node, scan(JSON.stringify(many), 100), 10);
  apply("put", "/", JSON.stringify({ a: many }));
  assert.equal(tree.find(["a"]).node.children.length, 20);
  assert.deepEqual([...said.stale], ["a"]);
});
