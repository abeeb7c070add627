// The page: which part of it is shown, and the keyboard.

import { about, watch } from "./asking.js";
import { showAlarms } from "./alarms.js";
import { announce, fail, h } from "./elements.js";
import { showLive } from "./live.js";
import { showObject } from "./object.js";
import { showClass } from "./objects.js";
import { showOverview } from "./overview.js";
import { showProcesses } from "./processes.js";

let leave = () => {};

async function route() {
  leave();
  announce("");
  const left = new AbortController();
  leave = () => left.abort();
  const main = document.getElementById("main");
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const shown = { "": showOverview, class: showClass, object: showObject, live: showLive, alarms: showAlarms, processes: showProcesses }[page];
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
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea") || document.querySelector("dialog[open]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const pages = { 1: "#/", 2: "#/live", 3: "#/alarms", 4: "#/processes" };
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
about().then((known) => {
  document.getElementById("path").textContent = known.path;
  if (known.may_write) document.getElementById("promise").textContent = "Looking writes nothing and wakes no object; changes are asked about first.";
}, () => {});
