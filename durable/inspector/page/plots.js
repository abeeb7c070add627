// Plots, drawn as SVG.

import { h, s, until } from "./elements.js";
import { POINTS } from "./asking.js";

export function plot(title, points, shown) {
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

export function timeline(alarms) {
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
