// The store as a whole, and what its program does now.

import { ask, reports } from "./asking.js";
import { cell, count, h, fill, head, labelOf, linkTo, size, span, table, tiles } from "./elements.js";
import { plot } from "./plots.js";

const perSecond = (report, what) => report[what] / Math.max(report.period_s, 0.001);
const percentile = (parts, percent) => parts[percent] ?? null;
const rate = (value) => `${value < 10 && value % 1 ? value.toFixed(1) : count(Math.round(value))}/s`;

export async function showOverview(main, signal) {
  const found = await ask("overview", {}, signal);
  const measures = found.measures;
  const live = h("section", { "aria-label": "what happens now" }, h("div"), h("div"));
  document.addEventListener("report", () => drawLive(live), { signal });
  drawLive(live);
  const isEmpty = !found.classes.some((each) => each.objects);
  fill(main,
    h("h1", {}, "Overview"),
    isEmpty ? emptiness(found.path) : null,
    live,
    isEmpty ? null : classTable(found.classes),
    h("h2", {}, "On disk"),
    tiles([
      ["objects", count(measures.objects), "that have stored something"],
      ["values", count(measures.records), "keys of all objects"],
      ["alarms", count(measures.alarms), "that are set"],
      ["file", size(measures.file_size), `${size(measures.free_pages * measures.page_size)} of it free`],
      ["commits", count(measures.last_commit), "since the store was made"],
    ]),
    measures.advice ? h("p", { class: "warm" }, measures.advice) : null);
}

function emptiness(path) {
  const example = `import asyncio, durable

class Counter(durable.DurableObject):
    async def increment(self):
        value = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

async def main():
    async with durable.open(${JSON.stringify(path)}, operate=True) as runtime:
        counter = runtime.namespace(Counter).get_by_name("visits")
        print(await counter.increment())
        await asyncio.sleep(60)

asyncio.run(main())`;
  return h("section", { class: "empty" },
    h("p", {}, "The store is empty: a class is here once one of its objects has stored something, or set an alarm. This program stores a first value:"),
    h("pre", { class: "code mono" }, example));
}

function classTable(classes) {
  const most = Math.max(...classes.map((each) => each.objects), 1);
  return h("section", {}, h("h2", {}, "Classes"), table([head("class"), head("objects", "number")],
    classes.map((each) => {
      const bar = cell(h("a", { href: `#/class/${encodeURIComponent(each.label)}` }, each.label), "bar");
      bar.style.setProperty("--part", `${(100 * each.objects) / most}%`);
      return [bar, cell(`${count(each.objects)}${each.is_all ? "" : " and more"}`, "number")];
    }), ""));
}

function drawLive(live) {
  const last = reports[reports.length - 1];
  const [now, busiest] = live.children;
  if (!last) {
    now.replaceChildren(h("p", { class: "note" }, "No running program can be watched here. What is stored is shown all the same; open the store with operate=True, or run with DURABLE_OPERATE=1, to see what happens."));
    return;
  }
  const statistics = last.statistics;
  fill(now,
    h("h2", {}, "Now"),
    tiles([
      ["in memory", count(statistics.live_objects), "objects; the others are on disk only"],
      ["open calls", count(statistics.open_deliveries), "have no answer yet"],
      ["waiting", count(statistics.queued_deliveries), "of them, for their turn"],
      ["web sockets", count(statistics.websockets), "connected"],
      ["memory", size(last.memory_bytes), `of the program; ${size(statistics.cache_bytes)} cached values`],
    ]),
    h("div", { class: "plots" },
      plot("Calls", [["calls", reports.map((report) => perSecond(report, "calls"))]], rate),
      plot("A call takes", [
        ["median", reports.map((report) => percentile(report.call_s, 50))],
        ["99 % within", reports.map((report) => percentile(report.call_s, 99))],
      ], span),
      plot("Failed calls", [["failed", reports.map((report) => perSecond(report, "errors"))]], rate),
      plot("Waiting calls", [["waiting", reports.map((report) => report.statistics.queued_deliveries)]], (value) => count(Math.round(value))),
      plot("Commits", [["commits", reports.map((report) => perSecond(report, "committed"))]], rate),
      plot("A commit takes", [
        ["median", reports.map((report) => percentile(report.fsync_s, 50))],
        ["99 % within", reports.map((report) => percentile(report.fsync_s, 99))],
      ], span),
      plot("Memory of the program", [["memory", reports.map((report) => report.memory_bytes)]], size)));
  // A link that has the focus would lose it if the list were drawn anew.
  if (!busiest.contains(document.activeElement)) fill(busiest,
    h("h2", {}, "Busiest objects"),
    h("p", { class: "note" }, last.missed
      ? "In the last second, of a sample of the calls: to look at all of them would slow the program down."
      : "In the last second."),
    table([head("object"), head("class"), head("calls", "number"), head("waiting", "number"), head("failed", "number")],
      last.objects.slice(0, 10).map((each) => [
        cell(h("a", { href: linkTo({ class: each.class_name, id: each.object_id }) }, labelOf({ name: each.name, id: each.object_id })), "mono"),
        cell(each.class_name), cell(count(each.deliveries), "number"), cell(count(each.queue), "number"), cell(count(each.errors), each.errors ? "number error" : "number"),
      ]), "No object was called in the last second."));
}
