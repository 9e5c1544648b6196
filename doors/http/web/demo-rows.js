// The rows of the tree: one list item per shown node, drawn again at most once a frame; keyboard; editing in place.

import { isSegment, urlOf } from "./demo-path.js";
import { preview, scalarText } from "./demo-tree.js";

/** How many children a level shows when it is opened, and how many more each time that is asked for. */
export const CHILDREN_SHOWN = 100;
/** Above so many at once, rows go without a farewell. */
const FAREWELLS_MAX = 40;
const FAREWELL_MS = 450;

/** An element with its properties set and its children appended; strings become text nodes. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  const { data = {}, ...rest } = properties;
  for (const [key, value] of Object.entries(rest)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  Object.assign(made.dataset, data);
  made.append(...children);
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function iconButton(name, title, onclick) {
  return element("button", { type: "button", title, ariaLabel: title, tabIndex: -1, onclick }, icon(name));
}

/** What a person typed, as JSON text: JSON if it is some, else a string. */
export function jsonOf(typed) {
  try {
    JSON.parse(typed);
    return typed.trim();
  } catch {
    return JSON.stringify(typed);
  }
}

/** What a person edits: a string without its quotes, unless it would then read as something else. */
function editableText(node) {
  return node.kind === "string" && jsonOf(node.text) === JSON.stringify(node.text) ? node.text
    : node.kind === "string" ? JSON.stringify(node.text) : node.text;
}

function kindOfJson(json) {
  const value = JSON.parse(json);
  if (value === null) return "removes";
  return Array.isArray(value) ? "array" : typeof value === "object" ? "map" : typeof value;
}

/**
 * Draws a tree below `list`. `base` is the path of its root.
 *
 * `on` has what rows can ask for: `open(node)`, `more(node)`, `write(path, json)`, `push(path, json)`,
 * `remove(path)`, `editJson(node)`, `focus(path)`. The writing ones answer with a promise of success.
 */
export class Rows {
  #list;
  #base;
  #tree;
  #on;
  #dirty = new Set();
  #flashes = new Map();
  #frame = 0;
  #views = new WeakMap();
  #selected = null;
  /** The row to select in the place of one that is gone. */
  #heir = null;

  constructor(list, base, tree, on) {
    this.#list = list;
    this.#base = base;
    this.#tree = tree;
    this.#on = on;
    list.replaceChildren(this.#view(tree.root).item);
    this.#select(tree.root, false);
    list.onkeydown = (event) => this.#key(event);
    list.onclick = (event) => this.#click(event);
    list.onpointerover = (event) => this.#offer(this.#nodeAt(event.target));
    list.ondblclick = (event) => event.target.closest(".value") && this.edit(this.#nodeAt(event.target));
  }

  /** Draws the node again, with its level if it is open. */
  changed(node) {
    this.#dirty.add(node);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Flashes the deepest row shown at or above `node`. */
  flash(node, how) {
    let shown = node;
    for (let above = node.parent; above; above = above.parent) if (!above.open) shown = above;
    // A new row says more than the change that came right after it.
    if (this.#flashes.get(shown) !== "new") this.#flashes.set(shown, shown === node ? how : "put");
    this.changed(shown);
  }

  /** Shows a message beside the row for some seconds. */
  tell(node, text) {
    this.flash(node, "message");
    let shown = node;
    for (let above = node.parent; above; above = above.parent) if (!above.open) shown = above;
    const { row, acts } = this.#view(shown);
    row.querySelector(".told")?.remove();
    const told = element("span", { className: "told" }, text);
    told.onanimationend = () => told.remove();
    acts.before(told);
  }

  reading(node, isReading) {
    this.#view(node).item.classList.toggle("reading", isReading);
  }

  #draw() {
    this.#frame = 0;
    for (const node of this.#dirty) if (this.#isShown(node)) this.#drawNode(node);
    this.#dirty.clear();
    for (const [node, how] of this.#flashes) if (this.#isShown(node)) this.#flashRow(this.#view(node).row, how);
    this.#flashes.clear();
    if (!this.#isShown(this.#selected)) this.#selectNearest();
  }

  #isShown(node) {
    return this.#views.get(node)?.item.isConnected && node.parent?.open !== false &&
      (!node.parent || node.parent.child(node.key) === node);
  }

  #flashRow(row, how) {
    const [on, off] = row.classList.contains("flash-a") ? ["flash-b", "flash-a"] : ["flash-a", "flash-b"];
    row.dataset.how = how;
    row.classList.remove(off);
    row.classList.add(on);
  }

  #view(node) {
    let view = this.#views.get(node);
    if (view) return view;
    view = this.#makeView(node);
    this.#views.set(node, view);
    this.#drawRow(node, view);
    return view;
  }

  #makeView(node) {
    const twisty = element("button", { type: "button", className: "twisty", tabIndex: -1, ariaHidden: "true" }, icon("twisty"));
    const key = element("span", { className: "key" }, node.parent ? node.key || '""' : (this.#base.at(-1) ?? "/"));
    const value = element("span", { className: "value" });
    const acts = element("span", { className: "acts" });
    const row = element("div", { className: "row" }, twisty, key, value, acts);
    const item = element("li", { role: "treeitem", tabIndex: -1, ariaSelected: "false" }, row);
    item.node = node;
    return { item, row, value, acts, group: null, form: null };
  }

  #drawNode(node) {
    const view = this.#view(node);
    this.#drawRow(node, view);
    if (node.open) this.#drawLevel(node, view);
    else if (view.group) {
      view.group.remove();
      view.group = null;
    }
  }

  #drawRow(node, { item, value, acts }) {
    const level = node.path.length + 1;
    item.ariaLevel = String(level);
    item.classList.toggle("leaf", !node.isContainer);
    if (node.isContainer) item.ariaExpanded = String(node.open);
    else item.removeAttribute("aria-expanded");
    if (value.dataset.kind !== node.kind) {
      value.dataset.kind = node.kind;
      acts.replaceChildren();
      if (node === this.#selected) this.#drawActs(node);
    }
    const text = node.open ? countText(node) : preview(node);
    if (value.textContent !== text) value.textContent = text;
    value.title = node.isContainer ? "" : scalarText(node);
  }

  #drawLevel(node, view) {
    if (!view.group) {
      view.group = element("ul", { role: "group" });
      view.item.append(view.group);
    }
    const group = view.group;
    this.#bidFarewell(node, group);
    let next = group.firstElementChild;
    for (const child of node.children) {
      while (next && !next.node) next = next.nextElementSibling;
      const { item } = this.#view(child);
      if (item === next) next = next.nextElementSibling;
      else group.insertBefore(item, next);
      if (child.open && !this.#views.get(child).group) this.#drawNode(child);
    }
    this.#drawMore(node, group);
  }

  /** Takes out the rows of children that are gone, after a moment in which they can be seen to go. */
  #bidFarewell(node, group) {
    const gone = [...group.children].filter((item) => item.node && node.child(item.node.key) !== item.node);
    for (const item of gone) {
      if (item.ariaSelected === "true") this.#heir = (item.nextElementSibling ?? item.previousElementSibling)?.node ?? node;
      item.node = null;
      if (gone.length > FAREWELLS_MAX) item.remove();
      else {
        item.classList.add("gone");
        setTimeout(() => item.remove(), FAREWELL_MS);
      }
    }
  }

  #drawMore(node, group) {
    group.querySelector(":scope > .more")?.remove();
    if (node.complete) return;
    const unseen = node.unseen ? ` (${node.unseen} changed there)` : "";
    const button = element("button", { type: "button", onclick: () => this.#on.more(node) }, `Show more${unseen}`);
    group.append(element("li", { className: "more", role: "none" }, button));
  }

  // What a row offers.

  #offer(node) {
    if (node && !this.#view(node).acts.hasChildNodes()) this.#drawActs(node);
  }

  #drawActs(node) {
    const { acts } = this.#view(node);
    const path = [...this.#base, ...node.path];
    const reachable = path.every(isSegment) && !path[0]?.startsWith(".") && node.key !== ".value";
    const offered = [];
    if (reachable) {
      if (node.kind !== "absent" && node.kind !== "bytes") offered.push(iconButton("edit", "Edit (Enter)", () => this.edit(node)));
      if (node.isContainer || node.kind === "absent") offered.push(iconButton("add", "Add a key (+)", () => this.add(node)));
      if (node.parent) offered.push(iconButton("focus", "Show only this", () => this.#on.focus(path)));
      offered.push(element("a", { href: urlOf(path), target: "_blank", rel: "noopener", title: "Open its address", ariaLabel: "Open its address", tabIndex: -1 }, icon("open")));
      if (path.length) offered.push(iconButton("delete", "Delete (Del)", () => this.remove(node)));
    }
    acts.replaceChildren(...offered);
  }

  toggle(node) {
    if (!node.isContainer) return;
    if (node.open) {
      node.fold();
      this.changed(node);
    } else this.#on.open(node);
  }

  /** Edits a short value in its row, everything else in the dialog. */
  edit(node) {
    if (!node || node.kind === "bytes" || node.kind === "absent") return;
    if (node.isContainer || node.cut) return this.#on.editJson(node);
    const view = this.#view(node);
    if (view.form) return;
    const before = editableText(node);
    const input = element("input", { value: before, ariaLabel: `New value of ${node.key}`, autocomplete: "off", spellcheck: false });
    const kind = element("span", { className: "as" });
    const form = element("form", {}, input, kind, element("button", { className: "main" }, "Save"));
    const showKind = () => (kind.textContent = kindOfJson(jsonOf(input.value)));
    this.#openForm(view, view.value, form, input, async () =>
      input.value === before || (await this.#on.write(node.path, jsonOf(input.value))));
    input.oninput = showKind;
    showKind();
    input.select();
  }

  /** Asks for a key and a value in a row of its own, first in the level. */
  add(node) {
    if (!node.open && node.isContainer) this.#on.open(node);
    const key = element("input", { className: "new-key", placeholder: "key, or empty for a push id", ariaLabel: "Key", autocomplete: "off", autocapitalize: "off", spellcheck: false });
    const input = element("input", { placeholder: "value: text or JSON", ariaLabel: "Value", autocomplete: "off", spellcheck: false });
    const form = element("form", {}, key, input, element("button", { className: "main" }, "Add"));
    const view = this.#view(node);
    if (view.form) return;
    const place = element("div", { className: "row" });
    view.row.after(place);
    this.#openForm(view, null, form, key, async () => {
      if (!key.value && !input.value) return true;
      return key.value ? this.#on.write([...node.path, key.value], jsonOf(input.value)) : this.#on.push(node.path, jsonOf(input.value));
    }, place);
  }

  /** Puts `form` in the place of `hidden`, or into `place`; closes it when `save` says that it is done, or at Escape. */
  #openForm(view, hidden, form, first, save, place = null) {
    const close = (refocus) => {
      if (view.form !== form) return;
      view.form = null;
      form.remove();
      place?.remove();
      if (hidden) hidden.hidden = false;
      if (refocus) view.item.focus();
    };
    view.form = form;
    if (hidden) {
      hidden.hidden = true;
      hidden.after(form);
    } else place.append(form);
    form.onsubmit = async (event) => {
      event.preventDefault();
      if (await save()) close(form.contains(document.activeElement));
    };
    form.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close(true);
    };
    form.onfocusout = ({ relatedTarget }) => {
      if (!form.contains(relatedTarget)) form.requestSubmit();
    };
    first.focus();
  }

  /** Deletes at the second press. */
  remove(node) {
    const { acts } = this.#view(node);
    const button = acts.lastElementChild;
    if (button?.classList.contains("sure")) return void this.#on.remove(node.path);
    const sure = element("button", { type: "button", className: "sure", tabIndex: -1, onclick: () => this.#on.remove(node.path) }, "Delete?");
    button?.replaceWith(sure);
    setTimeout(() => sure.isConnected && this.#drawActs(node), 3000);
  }

  // Selection and keyboard, after the tree pattern of the ARIA Authoring Practices.

  #nodeAt(target) {
    return target.closest('[role="treeitem"]')?.node;
  }

  #click(event) {
    const node = this.#nodeAt(event.target);
    if (!node || event.target.closest("form, .acts, .more")) return;
    if (event.target.closest(".row")) this.#select(node, true);
    if (event.target.closest(".twisty") || (node.isContainer && event.detail === 1 && event.target.closest(".key, .value"))) this.toggle(node);
  }

  #select(node, focus) {
    const before = this.#selected && this.#views.get(this.#selected);
    if (before) {
      before.item.ariaSelected = "false";
      before.item.tabIndex = -1;
    }
    this.#selected = node;
    const { item } = this.#view(node);
    item.ariaSelected = "true";
    item.tabIndex = 0;
    this.#drawActs(node);
    if (focus) item.focus({ preventScroll: false });
  }

  #selectNearest() {
    const hadFocus = this.#list.contains(document.activeElement) || document.activeElement === document.body;
    let node = this.#heir ?? this.#selected;
    this.#heir = null;
    while (node.parent && !this.#isShown(node)) node = node.parent;
    this.#select(node, hadFocus && !this.#list.querySelector("form"));
  }

  #key(event) {
    const node = this.#selected;
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("form")) return;
    if (event.key === "Enter" && event.target.closest("button, a")) return;
    const todo = {
      ArrowDown: () => this.#step(1),
      ArrowUp: () => this.#step(-1),
      Home: () => this.#step(-Infinity),
      End: () => this.#step(Infinity),
      ArrowRight: () => (node.isContainer && !node.open ? this.toggle(node) : node.open && this.#step(1)),
      ArrowLeft: () => (node.open ? this.toggle(node) : node.parent && this.#select(node.parent, true)),
      " ": () => this.toggle(node),
      Enter: () => this.edit(node),
      F2: () => this.edit(node),
      Delete: () => (node.parent || this.#base.length) && this.remove(node),
      "+": () => this.add(node),
      Insert: () => this.add(node),
    }[event.key];
    if (!todo) return;
    event.preventDefault();
    todo();
  }

  #step(by) {
    const items = [...this.#list.querySelectorAll('[role="treeitem"]')].filter((item) => item.node);
    const at = items.indexOf(this.#view(this.#selected).item);
    const to = Math.max(0, Math.min(items.length - 1, at + by));
    this.#select(items[to].node, true);
  }
}

function countText(node) {
  const count = node.children.length;
  const what = node.kind === "array" ? "item" : "key";
  return node.complete ? `${count} ${what}${count === 1 ? "" : "s"}` : `the first ${count} ${what}s`;
}
