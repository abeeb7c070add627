// The processes that have the store open, and which of them has which shard.

import { ask, reports } from "./asking.js";
import { cell, count, fail, fill, h, head, size, table } from "./elements.js";

const LOOKED_AT_MS = 2000;
const COLORS = 8;

export async function showProcesses(main, signal) {
  const place = h("div");
  main.replaceChildren(h("h1", {}, "Processes"), place);
  const look = async () => draw(place, await ask("processes", {}, signal));
  await look();
  const timer = setInterval(() => look().catch((error) => { if (!signal.aborted) fail(error); clearInterval(timer); }), LOOKED_AT_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function draw(place, found) {
  const last = reports[reports.length - 1];
  const reported = last ? (last.processes ?? [{ ...last, live_objects: last.statistics.live_objects, queued_deliveries: last.statistics.queued_deliveries }]) : [];
  const byPid = new Map(reported.map((each) => [each.pid, each]));
  const pids = found.processes.map((each) => each.pid);
  const rate = (each, what) => (each ? `${count(Math.round(each[what] / Math.max(each.period_s, 0.001)))}/s` : "–");
  const unwatched = pids.filter((pid) => !byPid.has(pid));
  const columns = [head("process"), head("state"), head("in memory", "number"), head("calls", "number"), head("failed", "number"), head("waiting", "number"), head("memory", "number")];
  if (found.is_shared) columns.push(head("shards", "number"));
  fill(place,
    h("p", { class: "note" }, found.is_shared
      ? "The store is divided into shards; each shard, and the objects in it, is in one process at a time."
      : found.processes.length ? "One process has the store. With durable.open(..., shared=True) several can."
        : "No process that can be watched has the store open. One can be if it opens the store with operate=True, or runs with DURABLE_OPERATE=1."),
    found.processes.length ? table(columns, found.processes.map((each, index) => {
      const now = byPid.get(each.pid);
      const name = h("span", {}, found.is_shared ? h("span", { class: `shard owner-${index % COLORS}` }) : "", ` ${each.pid}${each.is_here ? " (this one)" : ""}`);
      const cells = [cell(name, "mono"), cell(each.state), cell(count(each.live_objects ?? now?.live_objects), "number"), cell(rate(now, "calls"), "number"), cell(rate(now, "errors"), "number"), cell(now ? count(now.queued_deliveries) : "–", "number"), cell(now ? size(now.memory_bytes) : "–", "number")];
      if (found.is_shared) cells.push(cell(count(each.shards), "number"));
      return cells;
    }), "") : null,
    unwatched.length && found.is_shared ? h("p", { class: "note" }, `Not watched: ${unwatched.join(", ")}. A process says what it does if it opened the store with operate=True.`) : null,
    found.shards.length ? h("section", {}, h("h2", {}, `${count(found.shards.length)} shards`),
      h("div", { class: "shards" }, ...found.shards.map((pid, number) => {
        const index = pids.indexOf(pid);
        const text = `shard ${number}: ${pid === null ? "no process" : `process ${pid}`}`;
        return h("span", { class: index < 0 ? "shard" : `shard owner-${index % COLORS}`, title: text, role: "img", "aria-label": text });
      }))) : null);
}
