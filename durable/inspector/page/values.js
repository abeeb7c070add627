// A stored value as a tree.

import { h } from "./elements.js";

export function tree(value, isOpen = false) {
  if (value === null) return h("span", { class: "word" }, "None");
  if (typeof value === "string") return h("span", { class: "string mono" }, JSON.stringify(value));
  if (typeof value === "number") return h("span", { class: "number-value mono" }, String(value));
  if (typeof value === "boolean") return h("span", { class: "word" }, value ? "True" : "False");
  const pairs = Array.isArray(value) ? value.map((each, index) => [String(index), each]) : Object.entries(value);
  if (pairs.length === 1 && pairs[0][0].startsWith("$") && typeof pairs[0][1] === "string") {
    return h("span", { class: "mono" }, `${pairs[0][0].slice(1)} ${pairs[0][1]}`);
  }
  const kind = Array.isArray(value) ? `list of ${pairs.length}` : `${pairs.length} ${pairs.length === 1 ? "entry" : "entries"}`;
  const made = h("details", {}, h("summary", {}, pairs.length ? kind : `empty ${Array.isArray(value) ? "list" : "dict"}`));
  const fill = () => {
    if (made.childElementCount > 1) return;
    for (const [key, each] of pairs) made.append(h("div", {}, h("span", { class: "note mono" }, `${key}: `), tree(each)));
  };
  made.addEventListener("toggle", fill, { once: true });
  if (isOpen) { fill(); made.open = true; }
  return made;
}

export function shownValue(item) {
  if (item.too_large) return h("span", { class: "note" }, "too large to be shown here; `durable show --json` has it");
  if (item.why) return h("span", { class: "error" }, item.why);
  return tree(item.value, JSON.stringify(item.value).length < 200);
}
