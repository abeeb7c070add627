// The database of an object: its tables, and a box for queries that only read.

import { ask } from "./asking.js";
import { cell, h, head, size, table } from "./elements.js";
import { tree } from "./values.js";

export async function sqlBox(signal, cls, id, bytes) {
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
    return h("section", {}, h("h2", {}, `Database, ${size(bytes)}`),
      table([head("table"), head("made by")], tables.map((each) => [cell(each.name, "mono"), cell(h("pre", {}, each.sql), "mono")]), "It has no tables."),
      h("div", { class: "tools" }, query, h("button", { type: "button", onclick: run }, "Run (Ctrl+Enter)")), place);
  } catch (error) {
    return h("section", {}, h("h2", {}, "Database"), h("p", { class: "error" }, error.message));
  }
}
