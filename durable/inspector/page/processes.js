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
  const pids = found.processes.map((each) => each.pid);
  // Processes of several machines may have the same pid; what is reported is then of one of them.
  const isUnique = (pid) => pids.indexOf(pid) === pids.lastIndexOf(pid);
  const byPid = new Map(reported.filter((each) => isUnique(each.pid)).map((each) => [each.pid, each]));
  const nameOf = (each) => (isUnique(each.pid) ? `${each.pid}` : `${each.pid} at ${each.address ?? "no address"}`);
  const rate = (each, what) => (each ? `${count(Math.round(each[what] / Math.max(each.period_s, 0.001)))}/s` : "–");
  const unwatched = found.processes.filter((each) => !byPid.has(each.pid)).map(nameOf);
  const columns = [head("process"), head("state"), head("in memory", "number"), head("calls", "number"), head("failed", "number"), head("waiting", "number"), head("memory", "number")];
  if (found.is_shared) columns.push(head("shards", "number"));
  fill(place,
    h("p", { class: "note" }, found.is_shared
      ? "The store is divided into shards; each shard, and the objects in it, is in one process at a time."
      : found.processes.length ? "One process has the store. With durable.open(..., shared=True) several can."
        : "No process that can be watched has the store open. One can be if it opens the store with operate=True, or runs with DURABLE_OPERATE=1."),
    found.processes.length ? table(columns, found.processes.map((each, index) => {
      const now = byPid.get(each.pid);
      const name = h("span", {}, found.is_shared ? h("span", { class: `shard owner-${index % COLORS}` }) : "", ` ${nameOf(each)}${each.is_here ? " (this one)" : ""}`);
      const cells = [cell(name, "mono"), cell(each.state), cell(count(each.live_objects ?? now?.live_objects), "number"), cell(rate(now, "calls"), "number"), cell(rate(now, "errors"), "number"), cell(now ? count(now.queued_deliveries) : "–", "number"), cell(now ? size(now.memory_bytes) : "–", "number")];
      if (found.is_shared) cells.push(cell(count(each.shards), "number"));
      return cells;
    }), "") : null,
    unwatched.length && found.is_shared ? h("p", { class: "note" }, `Not watched: ${unwatched.join(", ")}. A process says what it does if it opened the store with operate=True, and runs on this machine as this user.`) : null,
    found.shards.length ? h("section", {}, h("h2", {}, `${count(found.shards.length)} shards`),
      h("div", { class: "shards" }, ...found.shards.map((owner, number) => {
        const text = `shard ${number}: ${owner === null ? "no process" : `process ${nameOf(found.processes[owner])}`}`;
        return h("span", { class: owner === null ? "shard" : `shard owner-${owner % COLORS}`, title: text, role: "img", "aria-label": text });
      }))) : null);
}
