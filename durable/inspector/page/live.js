// What happens, as it happens.

import { said } from "./asking.js";
import { cell, h, head, linkTo, span } from "./elements.js";

const EVENTS_SHOWN = 500;

export async function showLive(main, signal) {
  const filter = h("input", { type: "search", placeholder: "only what contains…", "aria-label": "filter" });
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "pause");
  const body = h("tbody");
  const state = h("span", { class: "note", role: "status" }, "waiting for something to happen");
  let isPaused = false;
  pause.addEventListener("click", () => { isPaused = !isPaused; pause.setAttribute("aria-pressed", String(isPaused)); pause.textContent = isPaused ? "go on" : "pause"; });
  filter.addEventListener("input", () => { for (const row of body.children) row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase()); });
  main.replaceChildren(h("h1", {}, "Live"), h("div", { class: "tools" }, filter, pause, state),
    h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, head("time"), head("event"), head("object"), head("what"))), body)));
  const known = new Set(["event", "time", "class_name", "object_id", "name", "pid"]);
  for await (const event of said("events", signal)) {
    if (isPaused || event.event === "Watching") continue;
    const rest = Object.entries(event).filter(([key, value]) => !known.has(key) && value !== null);
    const object = event.object_id ? h("a", { href: linkTo({ class: event.class_name, id: event.object_id }) }, `${event.class_name} ${event.name ?? event.object_id.slice(0, 8)}`) : "–";
    const time = event.time ? new Date(event.time * 1000).toISOString().slice(11, 23) : "";
    const row = h("tr", {}, cell(time, "mono"), cell(event.event), cell(object), cell(rest.map(([key, value]) => `${key} ${key.endsWith("_s") ? span(value) : value}`).join(", "), "mono"));
    row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase());
    body.prepend(row);
    while (body.childElementCount > EVENTS_SHOWN) body.lastElementChild.remove();
    state.textContent = "";
  }
  state.textContent = "the program has closed the store";
}
