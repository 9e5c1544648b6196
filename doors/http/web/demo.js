// The demo page: the live tree, the lines to paste, and what happens.

import { Live } from "./demo-live.js";
import { fragmentOf, pathOfFragment, plainOf, segmentsOf, urlOf } from "./demo-path.js";
import { Reads, Refused } from "./demo-read.js";
import { CHILDREN_SHOWN, element, Rows } from "./demo-rows.js";
import { indented } from "./demo-scan.js";
import { Tree, preview } from "./demo-tree.js";

const JSON_EDITED_MAX = 1 << 20;
const NOTICE_MS = 6000;
const LOG_KEPT = 40;
const LOG_DRAWN_MS = 150;
const PULSE_SECONDS = 60;

const $ = (id) => document.getElementById(id);

/** What is open now: one tree at one path, with its rows, reads and socket. */
let shown = null;

function show(base) {
  shown?.live.stop();
  const tree = new Tree({
    flash: (node, how) => rows.flash(node, how),
    changed: (node) => {
      rows.changed(node);
      if (node === tree.root) showEmptiness(base, node);
    },
    stale: (node) => reads.want(node),
  });
  const reads = new Reads(tree, base, {
    reading: (node, isReading) => rows.reading(node, isReading),
    failed: (_, error) => notice(`Could not read: ${error.message}`),
  });
  const rows = new Rows($("tree"), base, tree, {
    open: (node) => {
      node.unfold(CHILDREN_SHOWN);
      rows.changed(node);
      if (!node.complete || node.children.some((child) => child.isContainer && !child.complete)) reads.want(node);
    },
    more: (node) => {
      node.limit = node.children.length + CHILDREN_SHOWN;
      reads.want(node);
    },
    write: (path, json) => send("PUT", [...base, ...path], json),
    push: (path, json) => send("POST", [...base, ...path], json),
    remove: (path) => send("DELETE", [...base, ...path]),
    editJson: (node) => editJson([...base, ...node.path]),
    focus: (path) => (location.hash = fragmentOf(path)),
  });
  const live = new Live(base, {
    onState: showState,
    onFresh: () => {
      tree.root.asOf = -1;
      if (!tree.root.open) tree.root.unfold(CHILDREN_SHOWN);
      reads.want(tree.root);
    },
    onEvent: (event, seq) => {
      const path = segmentsOf(event.path).slice(base.length);
      tree.apply(event.type, path, event.value, seq);
      if (event.type === "message") rows.tell(tree.find(path).node, preview(event.value));
      else reads.saw(event.type, path, event.value, seq);
      note(event);
    },
  });
  shown = { base, live };
  showCrumbs(base);
  showPasteLines(base);
}

function showEmptiness(base, root) {
  const isEmpty = base.length === 0 && root.asOf >= 0 && root.complete && root.children.length === 0;
  $("empty").hidden = !isEmpty;
  $("tree").hidden = isEmpty;
}

// Writing.

/** Sends a write and says what the server refused. Answers whether it was accepted. */
async function send(method, path, body, headers = {}) {
  try {
    const answer = await fetch(urlOf(path), {
      method,
      body,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
    });
    if (!answer.ok) throw await Refused.from(answer);
    return true;
  } catch (error) {
    notice(error.message);
    return false;
  }
}

/** Edits the value at `path` as JSON; a change made meanwhile elsewhere is not overwritten unasked. */
async function editJson(path) {
  try {
    const { text, tag } = await readWhole(path);
    $("editor-title").textContent = plainOf(path);
    $("editor-text").value = indented(text);
    $("editor-problem").textContent = "";
    $("editor").tag = tag;
    $("editor").path = path;
    $("editor").showModal();
  } catch (error) {
    notice(error.message);
  }
}

async function readWhole(path) {
  const answer = await fetch(urlOf(path), { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!answer.ok) throw await Refused.from(answer);
  const [decoder, reader] = [new TextDecoder(), answer.body.getReader()];
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text, tag: answer.headers.get("ETag") };
    text += decoder.decode(value, { stream: true });
    if (text.length > JSON_EDITED_MAX) {
      await reader.cancel();
      throw new Error("This is too large to edit as one text. Open it, and edit what lies below.");
    }
  }
}

$("editor-form").onsubmit = async (event) => {
  event.preventDefault();
  const { path, tag } = $("editor");
  const text = $("editor-text").value;
  try {
    JSON.parse(text);
    const headers = { "Content-Type": "application/json", ...(tag && { "If-Match": tag }) };
    const answer = await fetch(urlOf(path), { method: "PUT", body: text, headers });
    if (answer.status === 412) {
      $("editor").tag = null;
      throw new Error("It changed elsewhere while you edited. Save again to replace that, or cancel.");
    }
    if (!answer.ok) throw await Refused.from(answer);
    $("editor").close();
  } catch (error) {
    $("editor-problem").textContent = error.message;
  }
};
$("editor-cancel").onclick = () => $("editor").close();

$("plant").onclick = () => send("PATCH", [], JSON.stringify({
  sensors: {
    341: { name: "greenhouse", temp: 21.5, unit: "C", online: true },
    342: { name: "cellar", temp: 12.25, unit: "C", online: true },
  },
  rooms: { lobby: { topic: "All are welcome", members: ["ada", "grace"] } },
  counter: 1,
}));

// Around the tree.

function showCrumbs(base) {
  const crumbs = [element("a", { href: "#/" }, "/")];
  base.forEach((segment, i) => {
    if (i > 0) crumbs.push(element("span", {}, "/"));
    crumbs.push(element("a", { href: fragmentOf(base.slice(0, i + 1)) }, segment || "~"));
  });
  crumbs.at(-1).setAttribute("aria-current", "page");
  $("crumbs").replaceChildren(...crumbs);
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function showPasteLines(base) {
  const here = location.origin + urlOf(base);
  const sensor = location.origin + urlOf(base.length ? [...base, "temp"] : ["sensors", "341"]);
  const put = base.length ? `curl -X PUT ${quoted(sensor)} -d 21.5` : `curl -X PUT ${sensor} -d '{"temp": 21.5}'`;
  $("first-put").textContent = put;
  $("paste-put").textContent = put;
  $("paste-sse").textContent = `curl -N -H 'Accept: text/event-stream' ${base.length ? quoted(here) : here}`;
  $("paste-ws").textContent = `new WebSocket(${JSON.stringify(here.replace(/^http/, "ws"))}).onmessage = e => console.log(e.data)`;
  $("paste-publish").textContent = `curl -X POST '${(base.length ? here : location.origin + "/chat").replaceAll("'", "%27")}?publish' -d '"hello"'`;
}

function showState(state, seconds) {
  $("state").dataset.state = state;
  $("state-text").textContent = { live: "live", connecting: "connecting", waiting: `offline, again in ${seconds} s` }[state];
}

function notice(text) {
  const line = element("p", {}, text);
  $("notices").append(line);
  setTimeout(() => line.remove(), NOTICE_MS);
}

// What happens: the last events, and how many in each second.

const log = [];
const pulse = new Array(PULSE_SECONDS).fill(0);
let logTimer = 0;

function note(event) {
  pulse[PULSE_SECONDS - 1]++;
  log.unshift({ ...event, at: new Date() });
  if (log.length > LOG_KEPT) log.length = LOG_KEPT;
  logTimer ||= setTimeout(drawLog, LOG_DRAWN_MS);
}

function drawLog() {
  logTimer = 0;
  $("log-empty").hidden = log.length > 0;
  $("log").replaceChildren(...log.map(({ type, path, value, at }) =>
    element("li", {},
      element("span", { className: "type", data: { type } }, type),
      element("a", { href: fragmentOf(segmentsOf(path)), title: path }, path),
      element("time", {}, at.toLocaleTimeString()),
      ...(value ? [element("code", {}, preview(value))] : []))));
}

function drawPulse() {
  const top = Math.max(5, ...pulse);
  $("pulse").setAttribute("points", pulse.map((count, i) => `${i},${19 - (18 * count) / top}`).join(" "));
  $("rate").textContent = String(pulse.at(-1));
  pulse.shift();
  pulse.push(0);
}

// Starting.

for (const button of document.querySelectorAll("[data-copies]")) {
  button.onclick = async () => {
    const code = $(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.classList.add("done");
      setTimeout(() => button.classList.remove("done"), 1500);
    } catch {
      getSelection().selectAllChildren(code);
    }
  };
}
$("window").onclick = () => window.open(location.href, "_blank", "popup,width=760,height=720");
$("go").onsubmit = (event) => {
  event.preventDefault();
  location.hash = fragmentOf(segmentsOf($("go-path").value.trim()));
  $("go-path").value = "";
};
addEventListener("online", () => shown.live.retry());
document.addEventListener("visibilitychange", () => document.hidden || shown.live.retry());
addEventListener("hashchange", () => show(pathOfFragment(location.hash)));
setInterval(drawPulse, 1000);
drawPulse();
show(pathOfFragment(location.hash));
