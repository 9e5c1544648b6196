// curl, as a person at a terminal uses it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { createInterface } from "node:readline";
import { Inbox, Server, run } from "./server.js";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

/** Runs curl; the answer's status, headers (lower case) and body. */
async function curl(path, ...args) {
  const { code, stdout, stderr } = await run("curl", ["-sS", "-i", "--max-time", "20", ...args, server.url + path]);
  assert.equal(code, 0, stderr);
  const end = stdout.indexOf("\r\n\r\n");
  const [line, ...lines] = stdout.slice(0, end).split("\r\n");
  const headers = Object.fromEntries(lines.map((l) => [l.split(":")[0].toLowerCase(), l.slice(l.indexOf(":") + 1).trim()]));
  return { status: Number(line.split(" ")[1]), headers, body: stdout.slice(end + 4) };
}

const json = ["-H", "Content-Type: application/json"];

test("PUT makes and replaces, GET reads, DELETE removes", async () => {
  assert.equal((await curl("/lamp/1", "-X", "PUT", "-d", '{"on":true}')).status, 201);
  assert.equal((await curl("/lamp/1", "-X", "PUT", "-d", '{"on":false}')).status, 204);
  const read = await curl("/lamp/1");
  assert.deepEqual([read.status, read.body.trim()], [200, '{"on":false}']);
  assert.match(read.headers["content-type"], /^application\/json/);
  assert.match(read.headers["sapwood-version"], /^[^.]+\.\d+$/);
  assert.equal(read.headers["vary"], "Accept");
  assert.equal((await curl("/lamp/1", "-X", "DELETE")).status, 204);
  assert.equal((await curl("/lamp/1", "-X", "DELETE")).status, 404);
  assert.equal((await curl("/lamp/1")).status, 404);
});

test("PATCH merges, and null removes", async () => {
  await curl("/patch/1", "-X", "PUT", "-d", '{"a":1,"b":2}');
  assert.equal((await curl("/patch/1", "-X", "PATCH", ...json, "-d", '{"b":null,"c":3}')).status, 204);
  assert.equal((await curl("/patch/1")).body.trim(), '{"a":1,"c":3}');
});

test("POST makes a child whose name sorts behind those before it", async () => {
  const first = await curl("/log", "-X", "POST", ...json, "-d", '"one"');
  const second = await curl("/log", "-X", "POST", ...json, "-d", '"two"');
  assert.equal(first.status, 201);
  const id = JSON.parse(first.body);
  assert.equal(first.headers.location, `/log/${id}`);
  const children = JSON.parse((await curl("/log/")).body);
  assert.deepEqual(children, [{ id, value: "one" }, { id: JSON.parse(second.body), value: "two" }]);
});

test("a trailing slash takes no writes but POST", async () => {
  for (const method of ["PUT", "PATCH", "DELETE"]) {
    const answer = await curl("/log/", "-X", method, ...json, "-d", "1");
    assert.equal(answer.status, 405, method);
    assert.match(answer.headers.allow, /POST/);
  }
});

test("HEAD says what GET would", async () => {
  await curl("/head/1", "-X", "PUT", "-d", '"x"');
  const get = await curl("/head/1");
  const head = await curl("/head/1", "--head");
  assert.equal(head.status, 200);
  assert.equal(head.headers.etag, get.headers.etag);
  assert.equal(head.headers["content-length"], get.headers["content-length"]);
});

test("of the same tag, one write wins", async () => {
  await curl("/cas/1", "-X", "PUT", "-d", "1");
  const { etag } = (await curl("/cas/1")).headers;
  const racers = Array.from({ length: 8 }, (_, i) => curl("/cas/1", "-X", "PUT", "-H", `If-Match: ${etag}`, "-d", String(i + 2)));
  const statuses = (await Promise.all(racers)).map((answer) => answer.status).sort();
  assert.deepEqual(statuses, [204, ...Array(7).fill(412)]);
  assert.equal((await curl("/cas/1", "-H", `If-None-Match: ${(await curl("/cas/1")).headers.etag}`)).status, 304);
  assert.equal((await curl("/cas/1", "-X", "PUT", "-H", "If-None-Match: *", "-d", "9")).status, 412);
});

test("a batch is all or nothing, and its problem says which", async () => {
  const good = JSON.stringify([
    { op: "put", path: "/batch/a", value: 1 },
    { op: "put", path: "/batch/b", value: 2 },
  ]);
  const answer = await curl("/.batch", "-X", "POST", ...json, "-d", good);
  assert.equal(answer.status, 200);
  assert.deepEqual(JSON.parse(answer.body).map((entry) => entry.path), ["/batch/a", "/batch/b"]);
  const bad = JSON.stringify([
    { op: "put", path: "/batch/a", value: 5 },
    { op: "put", path: "/batch/c", value: 6, if: { exists: true } },
  ]);
  const refused = await curl("/.batch", "-X", "POST", ...json, "-d", bad);
  assert.equal(refused.status, 412);
  assert.equal(JSON.parse(refused.body).index, 1);
  assert.deepEqual(JSON.parse((await curl("/batch")).body), { a: 1, b: 2 });
});

test("an error is a problem document with a code", async () => {
  for (const [path, status, ...args] of [
    ["/a//b", 400],
    ["/a%ZZ", 400],
    ["/absent", 404],
    ["/some.json", 404],
    ["/x", 400, "-X", "PUT", ...json, "-d", "{"],
    ["/x", 415, "-X", "PUT", "-d", "{not json"],
    ["/x", 406, "-H", "Accept: image/png", "-X", "GET"],
    ["/.nosuch", 404],
  ]) {
    if (status === 406) await curl("/x", "-X", "PUT", "-d", "1");
    const answer = await curl(path, ...args);
    assert.equal(answer.status, status, `${path} ${answer.body}`);
    assert.match(answer.headers["content-type"], /^application\/problem\+json/, path);
    const problem = JSON.parse(answer.body);
    assert.equal(problem.status, status);
    assert.equal(typeof problem.code, "string");
  }
});

test("without a type, what is no JSON is answered with the header to add", async () => {
  const answer = await curl("/typeless", "-X", "PUT", "-d", "hello there");
  assert.equal(answer.status, 415);
  assert.match(answer.body, /-H/);
  assert.equal((await curl("/typeless", "-X", "PUT", "-H", "Content-Type: text/plain", "-d", "hello there")).status, 201);
  assert.equal((await curl("/typeless")).body.trim(), '"hello there"');
  assert.equal((await curl("/typeless", "-H", "Accept: text/plain")).body, "hello there");
});

test("bytes of a type of their own come back so, and what a browser would run is fenced in", async () => {
  const page = "<script>alert(1)</script>";
  assert.equal((await curl("/page", "-X", "PUT", "-H", "Content-Type: text/html", "-d", page)).status, 201);
  const read = await curl("/page", "-H", "Accept: text/html, */*;q=0.1");
  assert.equal(read.body, page);
  assert.match(read.headers["content-type"], /^text\/html/);
  assert.match(read.headers["content-security-policy"], /sandbox/);
  assert.equal(read.headers["x-content-type-options"], "nosniff");
});

test("a dot before an ending, and segments of dots, are escaped above URL encoding", async () => {
  assert.equal((await curl("/report%252Ejson", "-X", "PUT", "-d", "1")).status, 201);
  assert.equal((await curl("/report%252Ejson")).body.trim(), "1");
  assert.equal((await curl("/dots/%252E%252E", "-X", "PUT", "-d", "2")).status, 201);
  assert.deepEqual(JSON.parse((await curl("/dots/")).body), [{ id: "..", value: 2 }]);
});

test("a record with a time to live goes when it is over", async () => {
  assert.equal((await curl("/ttl/1", "-X", "PUT", "-H", "Sapwood-Ttl: 1", "-d", "1")).status, 201);
  const stream = await fetch(`${server.url}/ttl/1`, { headers: { Accept: "text/event-stream" } });
  let text = "";
  for await (const chunk of stream.body) {
    text += Buffer.from(chunk);
    if (text.includes('"type":"delete"')) break;
  }
  assert.equal((await curl("/ttl/1")).status, 404);
});

test("curl -N shows each change as a line", async () => {
  const child = spawn("curl", ["-sN", "-H", "Accept: text/event-stream", `${server.url}/curl-stream/a`]);
  const inbox = new Inbox();
  createInterface({ input: child.stdout }).on("line", (line) => line.startsWith("data:") && inbox.push(JSON.parse(line.slice(5))));
  assert.equal((await inbox.next("the state")).value, null);
  await curl("/curl-stream/a", "-X", "PUT", "-d", '{"now":1}');
  const change = await inbox.next("the change");
  assert.deepEqual([change.type, change.value], ["put", { now: 1 }]);
  child.kill();
  await once(child, "exit");
});

test("the health pages answer GET and HEAD, also below /.sapwood/", async () => {
  for (const path of ["/healthz", "/readyz", "/metrics", "/.sapwood/healthz", "/.sapwood/readyz", "/.sapwood/metrics"]) {
    assert.equal((await curl(path)).status, 200, path);
    assert.equal((await curl(path, "--head")).status, 200, path);
  }
  assert.match((await curl("/metrics")).body, /^# (HELP|TYPE) sapwood_/m);
});

test("a page from elsewhere is refused, a loopback one is served", async () => {
  assert.equal((await curl("/lamp", "-H", "Host: evil.example")).status, 421);
  assert.equal((await curl("/lamp", "-H", "Origin: https://evil.example")).status, 403);
  const local = await curl("/healthz", "-H", "Origin: http://localhost:5173");
  assert.equal(local.headers["access-control-allow-origin"], "http://localhost:5173");
});

test("a program that asks for / gets the tree, a browser the page", async () => {
  assert.match((await curl("/")).headers["content-type"], /^application\/json/);
  const browser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
  assert.match((await curl("/", "-H", browser)).headers["content-type"], /^text\/html/);
  assert.match((await curl("/.sapwood/demo")).headers["content-type"], /^text\/html/);
});
