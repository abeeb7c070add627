"use strict";

// All that comes from the store is shown as text: no markup is ever made of it.

const TOKEN = takeToken();
const POINTS = 300; // seconds that the plots show
const EVENTS_SHOWN = 500;
const reports = [];
let leave = () => {};

function takeToken() {
  const given = new URLSearchParams(location.search).get("token");
  if (given !== null) {
    sessionStorage.setItem("durable token", given);
    history.replaceState(null, "", location.pathname + location.hash);
  }
  return sessionStorage.getItem("durable token") ?? "";
}

// Making elements

function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function fill(place, ...children) {
  place.replaceChildren(...children.filter((child) => child !== null));
}

function s(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const count = (value) => (value === null || value === undefined ? "–" : Number(value).toLocaleString("en"));

function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (bytes < 1024 || unit === "GiB") return `${bytes < 10 && unit !== "B" ? bytes.toFixed(1) : Math.round(bytes)} ${unit}`;
    bytes /= 1024;
  }
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3]];
  const [unit, length] = units.find(([, length]) => Math.abs(seconds) >= length) ?? ["µs", 1e-6];
  const amount = seconds / length;
  return `${Math.abs(amount) < 10 ? amount.toFixed(1) : count(Math.round(amount))} ${unit}`;
}

const moment = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?\+00:00$/, "") : "–");
const until = (text) => (Date.parse(text) - Date.now()) / 1000;
const labelOf = (found) => found.name ?? found.id.slice(0, 16) + "…";
const linkTo = (found) => `#/object/${encodeURIComponent(found.class)}/${encodeURIComponent(found.id)}`;

// Asking

async function ask(question, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined));
  const response = await fetch(`api/${question}?${query}`, { headers: { authorization: `Bearer ${TOKEN}` }, signal });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

async function* said(question, signal) {
  const response = await fetch(`api/${question}`, { headers: { authorization: `Bearer ${TOKEN}` }, signal });
  if (!response.ok) throw new Error((await response.json()).error);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
  }
}

function tell(text, kind = "") {
  const state = document.getElementById("state");
  state.textContent = text;
  state.className = kind;
}

async function watch() {
  for (;;) {
    try {
      for await (const report of said("reports")) {
        if (report.stuck) { tell(`process ${report.pid}: its event loop is stuck`, "bad"); continue; }
        report.at = Date.now();
        reports.push(report);
        if (reports.length > POINTS) reports.shift();
        const pids = report.pids ?? [report.pid];
        tell(`running, process ${pids.join(", ")}`, "live");
        document.dispatchEvent(new Event("report"));
      }
      tell("the program has closed the store");
    } catch (error) {
      tell("no program to be watched");
      document.getElementById("state").title = error.message;
    }
    document.dispatchEvent(new Event("report"));
    await new Promise((resume) => setTimeout(resume, 5000));
  }
}

// Plots

function plot(title, points, shown) {
  const highest = Math.max(...points.filter((point) => point !== null), 0);
  const last = points.length ? points[points.length - 1] : null;
  const figure = h("figure", {}, h("figcaption", {}, h("span", {}, title), h("b", {}, last === null ? "–" : shown(last))));
  const image = s("svg", { viewBox: "0 0 300 60", preserveAspectRatio: "none", role: "img", "aria-label": `${title}, the last minutes; at most ${shown(highest)}` });
  if (points.length > 1 && highest > 0) {
    const x = (index) => ((POINTS - points.length + index) / (POINTS - 1)) * 300;
    const y = (value) => 58 - ((value ?? 0) / highest) * 54;
    const path = points.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`);
    image.append(s("polygon", { class: "area", points: `${x(0)},60 ${path.join(" ")} 300,60` }), s("polyline", { class: "edge", points: path.join(" "), "vector-effect": "non-scaling-stroke" }));
  } else {
    image.append(s("line", { class: "axis", x1: 0, x2: 300, y1: 58, y2: 58 }));
  }
  figure.append(image, h("figcaption", {}, h("span", {}, "the last 5 minutes"), h("span", {}, `at most ${shown(highest)}`)));
  return figure;
}

function timeline(alarms) {
  const image = s("svg", { viewBox: "0 0 600 60", role: "img", "aria-label": "when alarms ring, on a scale from a second to a year" });
  const marks = [["now", 1], ["1 min", 60], ["1 h", 3600], ["1 d", 86400], ["1 month", 2592000], ["1 year", 31536000]];
  const x = (seconds) => 10 + (Math.log10(Math.min(Math.max(seconds, 1), 31536000)) / Math.log10(31536000)) * 580;
  image.append(s("line", { class: "axis", x1: 10, x2: 590, y1: 40, y2: 40 }));
  for (const [label, seconds] of marks) {
    const anchor = seconds === 1 ? "start" : seconds === 31536000 ? "end" : "middle";
    image.append(s("text", { x: x(seconds), y: 56, "text-anchor": anchor }, label), s("line", { class: "axis", x1: x(seconds), x2: x(seconds), y1: 36, y2: 44 }));
  }
  alarms.forEach((found, index) => image.append(s("circle", { class: "dot", cx: x(until(found.alarm.due)), cy: 30 - (index % 5) * 5, r: 4 })));
  return h("figure", {}, image);
}

// Tables

function table(columns, rows, emptiness) {
  if (!rows.length) return h("p", { class: "note" }, emptiness);
  const body = h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row)));
  return h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, ...columns)), body));
}

const head = (text, kind = "") => h("th", { scope: "col", class: kind }, text);
const cell = (content, kind = "") => h("td", { class: kind }, content ?? "–");

function tiles(pairs) {
  return h("div", { class: "tiles" }, ...pairs.map(([name, value]) => h("div", { class: "tile" }, h("b", {}, value), h("span", {}, name))));
}

function facts(pairs) {
  return h("dl", {}, ...pairs.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// Values

function tree(value, isOpen = false) {
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

function shownValue(item) {
  if (item.too_large) return h("span", { class: "note" }, "too large to be shown here; `durable show --json` has it");
  if (item.why) return h("span", { class: "error" }, item.why);
  return tree(item.value, JSON.stringify(item.value).length < 200);
}

// Pages

async function showOverview(main, signal) {
  const found = await ask("overview", {}, signal);
  document.getElementById("path").textContent = found.path;
  const measures = found.measures;
  const live = h("section", { "aria-label": "what happens now" });
  const draw = () => {
    const last = reports[reports.length - 1];
    if (!last) {
      live.replaceChildren(h("p", { class: "note" }, "No running program can be watched here. What is stored is shown all the same; open the store with operate=True, or run with DURABLE_OPERATE=1, to see what happens."));
      return;
    }
    const told = last.statistics;
    const rate = (report) => report.deliveries / Math.max(report.period_s, 0.001);
    live.replaceChildren(
      h("h2", {}, "Now"),
      tiles([
        ["live objects", count(told.live_objects)],
        ["open calls", count(told.open_deliveries)],
        ["waiting calls", count(told.queued_deliveries)],
        ["web sockets", count(told.websockets)],
        ["cache", size(told.cache_bytes)],
        ["batches waiting", count(told.batches_waiting)],
      ]),
      h("div", { class: "plots" },
        plot("calls a second", reports.map(rate), (value) => count(Math.round(value))),
        plot("commits a second", reports.map((report) => report.commits / Math.max(report.period_s, 0.001)), (value) => count(Math.round(value))),
        plot("commit, 99 of 100 within", reports.map((report) => report.fsync_s["99"] ?? report.fsync_s[99] ?? null), span),
        plot("waiting calls", reports.map((report) => report.statistics.queued_deliveries), count)),
      h("h2", {}, "Busiest objects"),
      table([head("object"), head("class"), head("calls", "number"), head("queue", "number"), head("errors", "number")],
        last.objects.slice(0, 10).map((each) => [
          cell(h("a", { href: linkTo({ class: each.class_name, id: each.object_id }) }, each.name ?? each.object_id.slice(0, 16) + "…"), "mono"),
          cell(each.class_name), cell(count(each.deliveries), "number"), cell(count(each.queue), "number"), cell(count(each.errors), "number"),
        ]), "Nothing happens at this moment."));
  };
  document.addEventListener("report", draw, { signal });
  draw();
  const most = Math.max(...found.classes.map((each) => each.objects), 1);
  fill(main,
    h("h1", {}, "Overview"),
    tiles([
      ["objects", count(measures.objects)], ["stored values", count(measures.records)], ["alarms", count(measures.alarms)],
      ["file", size(measures.file_size)], ["free pages", size(measures.free_pages * measures.page_size)], ["commits so far", count(measures.last_commit)],
    ]),
    measures.advice ? h("p", { class: "warm" }, measures.advice) : null,
    live,
    h("h2", {}, "Classes"),
    table([head("class"), head("objects", "number")],
      found.classes.map((each) => {
        const bar = cell(h("a", { href: `#/class/${encodeURIComponent(each.label)}` }, each.label), "bar");
        bar.style.setProperty("--part", `${(100 * each.objects) / most}%`);
        return [bar, cell(count(each.objects), "number")];
      }), "The store is empty: a class is here once one of its objects has stored something, or set an alarm."));
}

async function showClass(main, signal, cls) {
  const rows = [];
  let next = null;
  let order = { key: null, isDown: false };
  const place = h("div");
  const state = h("span", { class: "note", role: "status" });
  const search = h("input", { type: "search", placeholder: "names that begin with…", "aria-label": "search by name" });
  const more = h("button", { type: "button", onclick: () => load(true) }, "more");
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

async function showObject(main, signal, cls, id) {
  const place = h("div");
  const search = h("input", { type: "search", placeholder: "keys that begin with…", "aria-label": "search by key" });
  const more = h("button", { type: "button", hidden: "" }, "more");
  const items = [];
  let next = null;

  function draw() {
    place.replaceChildren(table([head("key"), head("type", "narrow-hide"), head("bytes", "number"), head("value")],
      items.map((item) => [cell(h("pre", {}, item.key), "mono"), cell(item.type, "narrow-hide"), cell(count(item.bytes), "number"), cell(shownValue(item))]),
      "There are no such keys."));
    more.hidden = next === null;
  }

  async function load(goesOn) {
    const found = await ask("object", { class: cls, id, prefix: search.value, start: goesOn ? next : null }, signal);
    if (!goesOn) items.length = 0;
    items.push(...found.items);
    next = found.next;
    draw();
    return found;
  }

  more.addEventListener("click", () => load(true).catch(fail));
  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => load(false).catch(fail), 200); });
  const found = await load(false);
  fill(main,
    h("h1", {}, h("a", { href: `#/class/${encodeURIComponent(cls)}` }, cls), " ", labelOf(found)),
    facts([
      ["name", found.name === null ? "–" : h("pre", { class: "mono" }, found.name)], ["id", h("span", { class: "mono" }, found.id)], ["created", moment(found.created)],
      ["next alarm", found.alarm ? `${moment(found.alarm.due)} (in ${span(until(found.alarm.due))}${found.alarm.retry_count ? `, retry ${found.alarm.retry_count}` : ""})` : "–"],
      ["database", found.database_bytes ? size(found.database_bytes) : "–"],
    ]),
    h("h2", {}, "Keys"), h("div", { class: "tools" }, search), place, h("div", { class: "tools" }, more),
    found.timers.length ? h("h2", {}, "Timers") : null,
    found.timers.length ? table(Object.keys(found.timers[0]).map((key) => head(key)), found.timers.map((timer) => Object.values(timer).map((value) => cell(String(value ?? "–"), "mono"))), "") : null,
    found.database_bytes ? await sqlBox(signal, cls, id) : null);
}

async function sqlBox(signal, cls, id) {
  const place = h("div", { role: "status" });
  const query = h("textarea", { "aria-label": "a query that only reads", spellcheck: "false" });
  const run = async () => {
    try {
      const found = await ask("rows", { class: cls, id, query: query.value }, signal);
      place.replaceChildren(
        table(found.columns.map((column) => head(column)), found.rows.map((row) => row.map((value) => cell(tree(value)))), "There are no rows."),
        found.is_all ? "" : h("p", { class: "note" }, `These are the first ${found.rows.length} rows.`));
    } catch (error) {
      place.replaceChildren(h("p", { class: "error" }, error.message));
    }
  };
  query.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(); });
  try {
    const { tables } = await ask("tables", { class: cls, id }, signal);
    query.value = tables.length ? `SELECT * FROM "${tables[0].name.replaceAll('"', '""')}" LIMIT 50` : "SELECT * FROM sqlite_schema";
    return h("section", {}, h("h2", {}, "Database"),
      table([head("table"), head("made by")], tables.map((each) => [cell(each.name, "mono"), cell(h("pre", {}, each.sql), "mono")]), "It has no tables."),
      h("div", { class: "tools" }, query, h("button", { type: "button", onclick: run }, "Run (Ctrl+Enter)")), place);
  } catch (error) {
    return h("section", {}, h("h2", {}, "Database"), h("p", { class: "error" }, error.message));
  }
}

async function showLive(main, signal) {
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

async function showAlarms(main, signal) {
  const { alarms } = await ask("alarms", {}, signal);
  fill(main, h("h1", {}, "Alarms"),
    alarms.length ? timeline(alarms) : null,
    h("h2", {}, alarms.length ? `The next ${count(alarms.length)}` : "None"),
    table([head("rings at"), head("in"), head("object"), head("class"), head("retries", "number")],
      alarms.map((found) => [cell(moment(found.alarm.due)), cell(span(until(found.alarm.due))), cell(h("a", { href: linkTo(found) }, labelOf(found)), "mono"), cell(found.class), cell(count(found.alarm.retry_count), "number")]),
      "No object has an alarm."));
}

function fail(error) {
  if (error.name === "AbortError") return;
  document.getElementById("main").append(h("p", { class: "error", role: "alert" }, error.message));
}

async function route() {
  leave();
  const left = new AbortController();
  leave = () => left.abort();
  const main = document.getElementById("main");
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const shown = { "": showOverview, class: showClass, object: showObject, live: showLive, alarms: showAlarms }[page];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === (page || "overview")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(h("p", { class: "note" }, "looking…"));
  try {
    if (!shown) throw new Error("There is no such page.");
    await shown(main, left.signal, ...rest);
  } catch (error) {
    if (left.signal.aborted) return;
    if (page !== "live") main.replaceChildren();
    fail(error);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const pages = { 1: "#/", 2: "#/live", 3: "#/alarms" };
  if (event.key === "/") {
    document.querySelector("main input[type=search]")?.focus();
    event.preventDefault();
  } else if (event.key in pages) {
    location.hash = pages[event.key];
  } else if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll("main a")];
    const step = event.key === "j" ? 1 : -1;
    const from = links.indexOf(document.activeElement);
    links[(from + step + links.length) % links.length]?.focus();
  }
});

addEventListener("hashchange", route);
route();
watch();
