// The objects of a class, page by page.

import { ask } from "./asking.js";
import { cell, count, fail, h, head, labelOf, linkTo, moment, size, span, table, until } from "./elements.js";

export async function showClass(main, signal, cls) {
  const rows = [];
  let next = null;
  let order = { key: null, isDown: false };
  const place = h("div");
  const state = h("span", { class: "note", role: "status" });
  const search = h("input", { type: "search", placeholder: "names that begin with…", "aria-label": "search by name" });
  const more = h("button", { type: "button", onclick: () => load(true).catch(fail) }, "more");
  const keys = { name: (each) => each.name ?? "", keys: (each) => each.keys ?? -1, bytes: (each) => each.bytes ?? -1, alarm: (each) => each.alarm?.due ?? "~", created: (each) => each.created };

  function sortable(text, key, kind = "") {
    const direction = order.key === key ? (order.isDown ? "descending" : "ascending") : "none";
    return h("th", { scope: "col", class: kind, "aria-sort": direction },
      h("button", { type: "button", onclick: () => { order = { key, isDown: order.key === key && !order.isDown }; draw(); } }, text));
  }

  function draw() {
    const sorted = [...rows];
    if (order.key) {
      const by = keys[order.key];
      sorted.sort((a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0) * (order.isDown ? -1 : 1));
    }
    place.replaceChildren(table(
      [sortable("name", "name"), head("id", "narrow-hide"), sortable("keys", "keys", "number"), sortable("bytes", "bytes", "number"), sortable("next alarm", "alarm"), sortable("created", "created", "narrow-hide")],
      sorted.map((each) => [
        cell(h("a", { href: linkTo(each) }, labelOf(each)), "mono"), cell(each.id.slice(0, 16) + "…", "mono narrow-hide"),
        cell(count(each.keys), "number"), cell(size(each.bytes), "number"),
        cell(each.alarm ? `in ${span(until(each.alarm.due))}` : "–"), cell(moment(each.created), "narrow-hide"),
      ]), "There are no such objects."));
    more.hidden = next === null;
    state.textContent = `${count(rows.length)} shown${next === null ? "" : ", there are more"}`;
  }

  let current = 0;
  async function load(goesOn) {
    const mine = ++current;
    if (!goesOn) { rows.length = 0; next = null; }
    do {
      state.textContent = "looking…";
      const found = await ask("objects", { class: cls, prefix: search.value, after: next }, signal);
      if (mine !== current) return;
      rows.push(...found.objects);
      next = found.next;
    } while (next !== null && !rows.length); // a name that is far behind
    draw();
  }

  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => load(false).catch(fail), 200); });
  main.replaceChildren(h("h1", {}, cls), h("div", { class: "tools" }, search, state), place, h("div", { class: "tools" }, more));
  await load(false);
}
