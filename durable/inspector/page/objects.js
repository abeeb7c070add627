// The objects of a class: page by page, searched by name or id, sorted by the server.

import { ask } from "./asking.js";
import { cell, count, fail, h, head, labelOf, linkTo, moment, size, span, table, until } from "./elements.js";

const PER_PAGE = 100;

export async function showClass(main, signal, cls) {
  const rows = [];
  let next = null; // from where to go on, where they are not sorted
  let isMore = false;
  let order = null; // a column, with "-" before it for the largest first
  let current = 0; // only the last question is shown
  const place = h("div");
  const state = h("span", { class: "note", role: "status" });
  const search = h("input", { type: "search", placeholder: "name begins with…, or id", "aria-label": "search by name or id" });
  const more = h("button", { type: "button", onclick: () => load(true).catch(fail) }, `Show ${PER_PAGE} more`);

  function sortable(text, key, kind = "", first = "") {
    const direction = order === key ? "ascending" : order === `-${key}` ? "descending" : "none";
    const other = order === null || order.replace("-", "") !== key ? first + key : order.startsWith("-") ? key : `-${key}`;
    return h("th", { scope: "col", class: kind, "aria-sort": direction },
      h("button", { type: "button", onclick: () => { order = other; load(false).catch(fail); } }, text));
  }

  function draw() {
    place.replaceChildren(table(
      [sortable("name", "name"), head("id", "narrow-hide"), sortable("keys", "keys", "number", "-"), sortable("size", "bytes", "number", "-"), sortable("next alarm", "alarm"), sortable("created", "created", "narrow-hide", "-")],
      rows.map((each) => [
        cell(h("a", { href: linkTo(each) }, labelOf(each)), "mono"), cell(each.id.slice(0, 16) + "…", "mono narrow-hide"),
        cell(each.keys === null ? "many" : count(each.keys), "number"), cell(each.keys === null ? "large" : size(each.bytes), "number"),
        cell(each.alarm ? `in ${span(until(each.alarm.due))}` : "–"), cell(moment(each.created), "narrow-hide"),
      ]), search.value ? `No object's name begins so, and no id: ${search.value}` : "The class has no objects now."));
    more.hidden = !isMore;
  }

  const summary = (lookedAt) => `${count(rows.length)} shown${isMore ? ", there are more" : ""}${order ? `, sorted of ${count(lookedAt)}` : ""}`;

  async function load(goesOn) {
    const mine = ++current;
    if (!goesOn) { rows.length = 0; next = null; }
    const before = order && goesOn && rows.length ? JSON.stringify(rows[rows.length - 1].place) : null;
    let best = [];
    let byId = [];
    let lookedAt = 0;
    let after = order ? null : next;
    do {
      state.textContent = lookedAt ? `looked at ${count(lookedAt)}…` : "looking…";
      const found = await ask("objects", { class: cls, prefix: search.value, after, order, beyond: before }, signal);
      if (mine !== current) return;
      lookedAt += found.looked_at;
      best.push(...found.objects);
      byId.push(...found.by_id);
      if (order) best = merged(best, order.startsWith("-"));
      after = found.next;
    } while (after !== null && (order || !(best.length + byId.length))); // a name may be far behind
    isMore = order ? best.length === PER_PAGE : after !== null;
    next = after;
    const known = new Set(rows.map((each) => each.id)); // one found by its id comes again by its name
    for (const each of [...byId, ...best]) if (!known.has(each.id)) { known.add(each.id); rows.push(each); }
    draw();
    state.textContent = summary(lookedAt);
  }

  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => load(false).catch(fail), 200); });
  main.replaceChildren(h("h1", {}, cls), h("div", { class: "tools" }, search, state), place, h("div", { class: "tools" }, more));
  await load(false);
}

// The first of several pages that are each sorted by their places.
function merged(objects, isDown) {
  objects.sort((a, b) => compare(a.place, b.place) * (isDown ? -1 : 1));
  return objects.slice(0, PER_PAGE);
}

function compare(a, b) {
  for (let index = 0; index < a.length; index += 1) {
    const [left, right] = [a[index], b[index]];
    const difference = typeof left === "string" ? compareText(left, right) : left - right;
    if (difference) return difference;
  }
  return 0;
}

// As the server does, which compares code points and not halves of them.
function compareText(left, right) {
  const [a, b] = [[...left], [...right]];
  for (let index = 0; index < Math.min(a.length, b.length); index += 1) {
    if (a[index] !== b[index]) return a[index].codePointAt(0) - b[index].codePointAt(0);
  }
  return a.length - b.length;
}
