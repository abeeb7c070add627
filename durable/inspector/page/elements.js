// Elements and tables, and how numbers and times are written.
// Rule: what comes from the store is shown as text; no markup is ever made of it.

export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function fill(place, ...children) {
  place.replaceChildren(...children.filter((child) => child !== null));
}

export function s(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const count = (value) => (value === null || value === undefined ? "–" : Number(value).toLocaleString("en"));

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (bytes < 1024 || unit === "GiB") return `${bytes < 10 && unit !== "B" ? bytes.toFixed(1) : Math.round(bytes)} ${unit}`;
    bytes /= 1024;
  }
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3]];
  const [unit, length] = units.find(([, length]) => Math.abs(seconds) >= length) ?? ["µs", 1e-6];
  const amount = seconds / length;
  return `${Math.abs(amount) < 10 ? amount.toFixed(1) : count(Math.round(amount))} ${unit}`;
}

export const moment = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?\+00:00$/, "") : "–");
export const until = (text) => (Date.parse(text) - Date.now()) / 1000;
export const labelOf = (found) => found.name ?? found.id.slice(0, 16) + "…";
export const linkTo = (found) => `#/object/${encodeURIComponent(found.class)}/${encodeURIComponent(found.id)}`;

export function table(columns, rows, emptiness) {
  if (!rows.length) return h("p", { class: "note" }, emptiness);
  const body = h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row)));
  return h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, ...columns)), body));
}

export const head = (text, kind = "") => h("th", { scope: "col", class: kind }, text);
export const cell = (content, kind = "") => h("td", { class: kind }, content ?? "–");

export function tiles(pairs) {
  return h("div", { class: "tiles" }, ...pairs.map(([name, value, words]) => h("div", { class: "tile" }, h("span", { class: "name" }, name), h("b", {}, value), h("span", {}, words))));
}

export function facts(pairs) {
  return h("dl", {}, ...pairs.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// What came of something, said at the top of the page.
export function announce(text, kind = "good") {
  const place = document.getElementById("result");
  place.textContent = text;
  place.className = kind;
  place.hidden = !text;
}

export function fail(error) {
  if (error.name === "AbortError") return;
  document.getElementById("main").append(h("p", { class: "error", role: "alert" }, error.message));
}
