// One object: what it does now, its keys and values, alarm, timers, sockets, database.

import { about, ask } from "./asking.js";
import { changesOf } from "./changes.js";
import { announce, cell, count, facts, fail, fill, h, head, labelOf, moment, size, span, table, until } from "./elements.js";
import { shownValue, tree } from "./values.js";
import { historyOf } from "./history.js";
import { sqlBox } from "./sql.js";

export async function showObject(main, signal, cls, id) {
  const { may_write: mayWrite } = await about(signal);
  const place = h("div");
  const top = h("div");
  const timers = h("div");
  const search = h("input", { type: "search", placeholder: "keys that begin with…", "aria-label": "search by key" });
  const more = h("button", { type: "button", hidden: "" }, "more");
  const items = [];
  let next = null;
  let changes = null;

  function draw() {
    const columns = [head("key"), head("type", "narrow-hide"), head("bytes", "number"), head("value")];
    if (mayWrite) columns.push(head("change"));
    place.replaceChildren(table(columns,
      items.map((item) => {
        const cells = [cell(h("pre", {}, item.key), "mono"), cell(item.type, "narrow-hide"), cell(count(item.bytes), "number"), cell(shownValue(item))];
        if (mayWrite) cells.push(cell(changes.ofKey(item.key)));
        return cells;
      }),
      search.value ? "No key begins so." : "It has no keys."));
    more.hidden = next === null;
  }

  async function load(goesOn) {
    const found = await ask("object", { class: cls, id, prefix: search.value, start: goesOn ? next : null }, signal);
    changes ??= changesOf({ class: cls, id: found.id }, `${cls} ${labelOf(found)}`, again);
    if (!goesOn) items.length = 0;
    items.push(...found.items);
    next = found.next;
    draw();
    drawTop(found);
    return found;
  }

  async function again() {
    await Promise.all([load(false), memory.look()]).catch(fail);
  }

  function drawTop(found) {
    top.replaceChildren(facts([
      ["name", found.name === null ? "– (made by an id)" : h("pre", { class: "mono" }, found.name)],
      ["id", h("span", { class: "mono" }, found.id)],
      ["created", moment(found.created)],
      ["next alarm", found.alarm ? `${moment(found.alarm.due)} (${inTime(found.alarm.due)}${found.alarm.retry_count ? `, retry ${found.alarm.retry_count}` : ""})` : "none"],
      ["now", memory.state],
    ]));
    fill(timers, ...(found.timers.length ? [h("h2", {}, "Timers"), timerTable(found.timers, mayWrite ? changes : null)] : []));
  }

  const memory = watchMemory({ class: cls, id }, signal);
  more.addEventListener("click", () => load(true).catch(fail));
  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => load(false).catch(fail), 200); });
  const found = await load(false);
  const goBack = () => {
    addEventListener("hashchange", () => announce(`Deleted ${cls} ${labelOf(found)}.`), { once: true });
    location.hash = `#/class/${encodeURIComponent(cls)}`;
  };
  fill(main,
    h("h1", {}, h("a", { href: `#/class/${encodeURIComponent(cls)}` }, cls), " ", labelOf(found)),
    top,
    mayWrite ? changes.ofObject({ hasAlarm: found.alarm !== null && !found.timers.length, goBack }) : null,
    h("h2", {}, "Keys"), h("div", { class: "tools" }, search), place, h("div", { class: "tools" }, more),
    timers, memory.sockets,
    found.database_bytes ? await sqlBox(signal, cls, id, found.database_bytes) : null,
    await historyOf(signal, { class: cls, id: found.id }, mayWrite ? changes : null));
}

const inTime = (due) => (until(due) >= 0 ? `in ${span(until(due))}` : `due since ${span(-until(due))}`);

function timerTable(timers, changes) {
  const columns = [head("name"), head("rings next"), head("schedule"), head("payload"), head("retries", "number")];
  if (changes) columns.push(head("change"));
  return table(columns, timers.map((timer) => {
    const schedule = timer.schedule === null ? "once" : [timer.schedule, timer.time_zone].filter((part) => part !== null).join(" ");
    const cells = [cell(h("pre", {}, timer.name), "mono"), cell(`${moment(timer.due)} (${inTime(timer.due)})`), cell(schedule, "mono"), cell(tree(timer.payload)), cell(count(timer.retry_count), "number")];
    if (changes) cells.push(cell(changes.ofTimer(timer.name)));
    return cells;
  }), "");
}

// What the object does in the memory of its program; looked at with each report.
function watchMemory(which, signal) {
  const state = h("span", { role: "status" }, "looking…");
  const sockets = h("section", { "aria-label": "web sockets" });
  let isLooking = false;

  async function look() {
    if (isLooking) return;
    isLooking = true;
    try {
      const now = await ask("memory", which, signal);
      state.textContent = now.is_live
        ? `in memory; ${now.open_deliveries ? `${count(now.open_deliveries)} open calls, ${count(now.queued_deliveries)} of them waiting for their turn` : "no call is open"}${now.websockets ? `; ${count(now.websockets)} web sockets` : ""}`
        : `not in memory${now.websockets ? `, ${count(now.websockets)} web sockets stay open` : ""}; the next call builds it`;
      sockets.replaceChildren(...(now.sockets.length ? [h("h2", {}, "Web sockets"), table(
        [head("tags"), head("kind"), head("messages that wait", "number")],
        now.sockets.map((each) => [cell(h("pre", {}, each.tags.length ? each.tags.map((tag) => JSON.stringify(tag)).join(" ") : "none"), "mono"), cell(each.hibernates ? "hibernates" : "read by the object itself"), cell(count(each.unread), "number")]), "")] : []));
    } catch (error) {
      if (!signal.aborted) state.replaceChildren(h("span", { class: "note" }, `not known: ${error.message}`));
    }
    isLooking = false;
  }

  document.addEventListener("report", look, { signal });
  look();
  return { state, sockets, look };
}
