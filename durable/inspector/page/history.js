// The history of an object: what it can go back to, and what changed between two moments.

import { ask } from "./asking.js";
import { cell, count, fill, h, head, moment, size, table } from "./elements.js";
import { tree } from "./values.js";

export async function historyOf(signal, which, changes) {
  const found = await ask("history", which, signal);
  if (!found.is_kept) return null;
  const place = h("div", { role: "status" });
  const moments = found.chapters.map((chapter) => h("option", { value: chapter.bookmark }, `before ${moment(chapter.began)}`));
  const from = h("select", { "aria-label": "from" }, ...moments, h("option", { value: found.oldest }, `the oldest, ${moment(found.begins)}`));
  const to = h("select", { "aria-label": "to" }, h("option", { value: "" }, "now"), ...moments.map((each) => each.cloneNode(true)));
  const compare = async () => {
    try {
      draw(place, await ask("changes", { ...which, start: from.value, end: to.value || null }, signal));
    } catch (error) {
      place.replaceChildren(h("p", { class: "error" }, error.message));
    }
  };
  const columns = [head("began"), head("what changed in it")];
  if (changes) columns.push(head("change"));
  return h("section", { class: "history" },
    h("h2", {}, `History, ${size(found.bytes)}`),
    h("p", { class: "note" }, `It can go back to any of these moments; the oldest is ${moment(found.begins)}.${found.is_all ? "" : " The latest are shown."}`),
    table(columns, found.chapters.map((chapter) => {
      const cells = [cell(moment(chapter.began)), cell(summary(chapter))];
      if (changes) cells.push(cell(changes.restore(chapter.bookmark, moment(chapter.began))));
      return cells;
    }), "Nothing has changed since its history began."),
    h("div", { class: "tools" }, h("label", {}, "From ", from), h("label", {}, "to ", to), h("button", { type: "button", onclick: compare }, "What changed?")),
    place);
}

function summary(chapter) {
  const some = (number, one, many) => (number ? [`${count(number)} ${number === 1 ? one : many}`] : []);
  return [
    ...(chapter.cleared ? ["all was deleted, or put back"] : []),
    ...some(chapter.keys, "key", "keys"), ...some(chapter.pages, "page of the database", "pages of the database"),
    ...(chapter.alarm ? ["the alarm"] : []), ...some(chapter.others, "timer or other thing", "timers and other things"),
  ].join(", ");
}

const side = (each) => (each.is_there ? (each.why ? h("span", { class: "note" }, each.why) : tree(each.value)) : h("span", { class: "note" }, "not there"));

function draw(place, found) {
  fill(place,
    table([head("what"), head("before"), head("after")],
      found.changes.map((each) => [cell(h("pre", {}, each.kind === "key" ? each.name : `${each.kind} ${each.name}`), "mono"), cell(side(each.before)), cell(side(each.after))]),
      "Nothing is different."),
    found.count > found.changes.length ? h("p", { class: "note" }, `These are ${count(found.changes.length)} of ${count(found.count)} changes.`) : null);
}
