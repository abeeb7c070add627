// The alarms that ring next.

import { ask } from "./asking.js";
import { cell, count, fill, h, head, labelOf, linkTo, moment, span, table, until } from "./elements.js";
import { timeline } from "./plots.js";

export async function showAlarms(main, signal) {
  const { alarms } = await ask("alarms", {}, signal);
  fill(main, h("h1", {}, "Alarms"),
    alarms.length ? timeline(alarms) : null,
    h("h2", {}, alarms.length ? `The next ${count(alarms.length)}` : "None"),
    table([head("rings at"), head("in"), head("object"), head("class"), head("retries", "number")],
      alarms.map((found) => [cell(moment(found.alarm.due)), cell(span(until(found.alarm.due))), cell(h("a", { href: linkTo(found) }, labelOf(found)), "mono"), cell(found.class), cell(count(found.alarm.retry_count), "number")]),
      "No object has an alarm."));
}
