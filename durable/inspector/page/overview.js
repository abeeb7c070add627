// The store as a whole, and what its program does now.

import { ask, reports } from "./asking.js";
import { cell, count, h, fill, head, linkTo, size, span, table, tiles } from "./elements.js";
import { plot } from "./plots.js";

export async function showOverview(main, signal) {
  const found = await ask("overview", {}, signal);
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
