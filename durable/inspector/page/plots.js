// Plots, drawn as SVG.

import { POINTS } from "./asking.js";
import { h, labelOf, s, until } from "./elements.js";

const WIDTH = 300, HEIGHT = 60;
const POINTS_MIN = 60; // a line that has just begun is to be seen

// The last minutes of one or two lines: `series` are names with a value for each second, null where
// there is none.
export function plot(title, series, shown) {
  const all = series.flatMap(([, points]) => points.filter((point) => point !== null));
  const highest = Math.max(...all, 0);
  const minutes = series[0][1].length <= POINTS_MIN ? "minute" : `${Math.ceil(series[0][1].length / 60)} minutes`;
  const now = series.map(([, points]) => points.findLast((point) => point !== null) ?? null);
  const written = (value) => (value === null ? "–" : shown(value));
  const summary = series.map(([name], index) => `${name} ${written(now[index])}`).join(", ");
  const image = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: now ${summary}; in the last ${minutes} at most ${shown(highest)}` });
  image.append(s("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1 }));
  if (highest > 0) series.forEach(([, points], index) => image.append(...line(points, highest, index)));
  const legend = series.length === 1 ? h("b", {}, written(now[0]))
    : h("span", {}, ...series.flatMap(([name], index) => [h("span", { class: `key key-${index}` }), `${name} `, h("b", {}, written(now[index])), " "]));
  return h("figure", {},
    h("figcaption", {}, h("span", { class: "title" }, title), legend),
    image,
    h("figcaption", {}, h("span", {}, `the last ${minutes}`), h("span", {}, `top: ${shown(highest)}`)));
}

function line(points, highest, index) {
  const shown = Math.min(POINTS, Math.max(POINTS_MIN, points.length));
  const x = (at) => ((shown - points.length + at) / (shown - 1)) * WIDTH;
  const y = (value) => HEIGHT - 2 - (value / highest) * (HEIGHT - 6);
  const path = points.map((value, at) => [x(at), value]).filter(([, value]) => value !== null).map(([at, value]) => `${at.toFixed(1)},${y(value).toFixed(1)}`);
  if (path.length === 1) path.unshift(path[0]); // one point is shown, too
  if (!path.length) return [];
  const edge = s("polyline", { class: `edge edge-${index}`, points: path.join(" "), "vector-effect": "non-scaling-stroke" });
  if (index) return [edge];
  const first = path[0].split(",")[0], last = path[path.length - 1].split(",")[0];
  return [s("polygon", { class: "area", points: `${first},${HEIGHT} ${path.join(" ")} ${last},${HEIGHT}` }), edge];
}

const YEAR_S = 31536000;
const MARKS = [["now", 1], ["1 min", 60], ["1 h", 3600], ["1 day", 86400], ["1 month", 2592000], ["1 year", YEAR_S]];

// Alarms on a line of time, where each step is some times as long as the one before.
export function timeline(alarms) {
  const image = s("svg", { viewBox: "0 0 600 60", role: "img", "aria-label": "when alarms ring, on a scale from a second to a year" });
  const x = (seconds) => 10 + (Math.log10(Math.min(Math.max(seconds, 1), YEAR_S)) / Math.log10(YEAR_S)) * 580;
  image.append(s("line", { class: "axis", x1: 10, x2: 590, y1: 40, y2: 40 }));
  for (const [label, seconds] of MARKS) {
    const anchor = seconds === 1 ? "start" : seconds === YEAR_S ? "end" : "middle";
    image.append(s("text", { x: x(seconds), y: 56, "text-anchor": anchor }, label), s("line", { class: "axis", x1: x(seconds), x2: x(seconds), y1: 36, y2: 44 }));
  }
  alarms.forEach((found, index) => image.append(s("circle", { class: found.alarm.retry_count ? "dot retried" : "dot", cx: x(until(found.alarm.due)), cy: 30 - (index % 5) * 5, r: 4 },
    s("title", {}, `${found.class} ${labelOf(found)}`))));
  return h("figure", {}, image, h("figcaption", {}, h("span", {}, "Each dot is an alarm, at the time until it rings; those that failed and are retried are red.")));
}
