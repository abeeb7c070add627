// What happens, as it happens: a sample of it where there is much.

import { said } from "./asking.js";
import { cell, count, h, head, labelOf, linkTo, span } from "./elements.js";

const EVENTS_SHOWN = 500;

const NAMES = {
  DeliveryEnded: "call", DeliveryCame: "call begins", CommitEnded: "commit", AlarmRang: "alarm rings", ObjectWoken: "built",
  ObjectEvicted: "evicted", ObjectBroken: "reset", Overloaded: "refused: too many wait", TurnTookLong: "kept all others waiting",
  QueryEnded: "SQL",
};

const failed = (event) => event.event === "ObjectBroken" || event.event === "Overloaded" || (event.event === "DeliveryEnded" && event.outcome !== "ok") || ((event.event === "CommitEnded" || event.event === "QueryEnded") && event.error !== null);
const KINDS = [
  ["all but beginnings", (event) => event.event !== "DeliveryCame"],
  ["calls", (event) => event.event === "DeliveryEnded"],
  ["what fails", failed],
  ["commits", (event) => event.event === "CommitEnded"],
  ["SQL", (event) => event.event === "QueryEnded"],
  ["alarms", (event) => event.event === "AlarmRang"],
  ["objects built, evicted, reset", (event) => event.event.startsWith("Object")],
  ["everything", () => true],
];

const milliseconds = (parts) => parts.filter(([, value]) => value >= 1e-5).map(([name, value]) => `${name} ${span(value)}`).join(", ");

function details(event) {
  switch (event.event) {
    case "DeliveryCame": return `${event.method}()`;
    case "DeliveryEnded": return `${event.method}()  ${milliseconds([["waited", event.queued_s], ["ran", event.duration_s], ["committed", event.commit_wait_s]]) || "took less than 10 µs"}${event.error === null ? "" : `  ${event.outcome}: ${event.error}`}`;
    case "CommitEnded": return `${count(event.batches)} ${event.batches === 1 ? "batch" : "batches"}, ${count(event.size)} bytes, ${span(event.fsync_s)}${event.error === null ? "" : `  ${event.error}`}`;
    case "AlarmRang": return `${event.timer === null ? "" : `timer ${JSON.stringify(event.timer)}, `}${span(event.late_s)} after its time${event.retry_count ? `, retry ${event.retry_count}` : ""}`;
    case "ObjectWoken": return `in ${span(event.duration_s)}`;
    case "ObjectBroken": return `${event.error}: ${event.reason}`;
    case "Overloaded": return `${event.method}(), ${count(event.queued)} wait: ${event.reason}`;
    case "QueryEnded": return `${event.query}  ${span(event.duration_s)}, ${count(event.rows_read)} read, ${count(event.rows_written)} written${event.error === null ? "" : `  ${event.error}`}`;
    case "TurnTookLong": return `${event.method}() for ${span(event.duration_s)}`;
  }
  return "";
}

function rowOf(event) {
  const object = event.object_id ? h("a", { href: linkTo({ class: event.class_name, id: event.object_id }) }, `${event.class_name} ${labelOf({ name: event.name, id: event.object_id })}`) : "–";
  const time = event.time ? new Date(event.time * 1000).toISOString().slice(11, 23) : "";
  return h("tr", { class: failed(event) ? "failed" : "" }, cell(time, "mono"), cell(NAMES[event.event] ?? event.event), cell(object), cell(details(event), "mono"));
}

export async function showLive(main, signal) {
  const filter = h("input", { type: "search", placeholder: "only what contains…", "aria-label": "filter" });
  const kind = h("select", { "aria-label": "kind of events" }, ...KINDS.map(([name], index) => h("option", { value: String(index) }, name)));
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const clear = h("button", { type: "button" }, "Clear");
  const body = h("tbody");
  const state = h("p", { class: "note", role: "status" }, "Waiting for something to happen.");
  const kept = []; // the newest first, with their rows
  let isPaused = false;

  const isWanted = (each) => KINDS[kind.value][1](each.event) && each.row.textContent.toLowerCase().includes(filter.value.toLowerCase());
  const draw = () => body.replaceChildren(...kept.filter(isWanted).map((each) => each.row));
  pause.addEventListener("click", () => { isPaused = !isPaused; pause.setAttribute("aria-pressed", String(isPaused)); pause.textContent = isPaused ? "Go on" : "Pause"; if (!isPaused) draw(); });
  clear.addEventListener("click", () => { kept.length = 0; draw(); });
  filter.addEventListener("input", draw);
  kind.addEventListener("change", draw);
  main.replaceChildren(h("h1", {}, "Live"), h("p", { class: "note" }, "Each call, commit and alarm as it happens, the newest first. Times are in UTC."),
    h("div", { class: "tools" }, filter, kind, pause, clear), state,
    h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, head("time"), head("event"), head("object"), head("what"))), body)));

  let seen = 0, missed = 0, since = Date.now();
  const events = said("events", signal);
  for await (const sample of events) {
    if (sample.event !== "Sample") continue;
    const made = sample.events.map((event) => ({ event, row: rowOf(event) })).reverse();
    kept.unshift(...made);
    kept.length = Math.min(kept.length, EVENTS_SHOWN);
    if (!isPaused) {
      body.prepend(...made.filter(isWanted).map((each) => each.row));
      const shown = new Set(kept.map((each) => each.row));
      while (body.lastElementChild && !shown.has(body.lastElementChild)) body.lastElementChild.remove();
    }
    seen += sample.events.filter((event) => event.event === "DeliveryCame").length;
    missed += sample.missed;
    if (Date.now() - since >= 1000) {
      state.textContent = missed ? `A sample: ${count(missed)} of ${count(seen + missed)} calls in the last second were left out, so that looking does not slow the program down.` : "All that happens is here.";
      seen = missed = 0;
      since = Date.now();
    }
  }
  state.textContent = "The program has closed the store.";
}
