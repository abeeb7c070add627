// Changes: each is asked about first, done by the program that has the store, and reported.

import { ask, change } from "./asking.js";
import { announce, h } from "./elements.js";

// A question in a dialog. `act` does it: what it raises is shown there, and the dialog stays.
// Resolves to whether it was done.
function question({ title, words, yes, extra = null, act }) {
  return new Promise((resolve) => {
    let isDone = false;
    const error = h("p", { class: "error", role: "alert" });
    const confirm = h("button", { type: "button", class: "do" }, yes);
    const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("h2", { id: "question" }, title),
      h("p", {}, words), extra, error,
      h("div", { class: "tools" }, confirm, cancel));
    const run = async () => {
      confirm.disabled = true;
      error.textContent = "";
      try {
        await act();
        isDone = true;
        dialog.close();
      } catch (failure) {
        error.textContent = failure.message;
      }
      confirm.disabled = false;
    };
    confirm.addEventListener("click", run);
    dialog.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(); });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(isDone); });
    document.body.append(dialog);
    dialog.showModal();
    (extra?.matches("input, textarea") ? extra : extra?.querySelector("input, textarea") ?? cancel).focus();
  });
}

// Changes of one object: `which` is its class and id, `label` what it is called.
export function changesOf(which, label, changed) {
  const button = (text, run, name = null) => h("button", { type: "button", "aria-label": name, onclick: run }, text);

  async function done(asked, said) {
    if (!(await question(asked))) return;
    announce(said());
    await changed();
  }

  function edit(key) {
    const isNew = key === null;
    const name = h("input", { type: "text", "aria-label": "key", placeholder: "key", spellcheck: "false" });
    const text = h("textarea", { "aria-label": "value as JSON", spellcheck: "false", rows: "8" });
    let before = null;
    let isWarned = false;
    const open = async () => {
      if (!isNew) {
        before = (await ask("value", { ...which, key })).text;
        text.value = before ?? "";
      }
      const act = async () => {
        const what = isNew ? name.value : key;
        const now = (await ask("value", { ...which, key: what })).text;
        if (now !== before && !isWarned) {
          isWarned = true;
          before = now;
          throw new Error(now === null ? "The key is gone by now. Press again to store it anew."
            : `There is another value by now: ${now.slice(0, 200)}. Press again to replace it.`);
        }
        isWarned = false;
        await change({ do: "put", ...which, key: what, value: text.value });
      };
      await done({
        title: isNew ? `Add a key to ${label}?` : `Change ${JSON.stringify(key)} of ${label}?`,
        words: 'The program stores it, as an event of the object; code of the object that keeps the old value in a variable does not see the new one. Write JSON: "a text", 5, 2.0, true, null, [1, 2], {"a": 1}.',
        yes: "Store it", extra: isNew ? h("div", {}, name, text) : text, act,
      }, () => `Stored ${JSON.stringify(isNew ? name.value : key)}.`);
    };
    open().catch((failure) => announce(failure.message, "error"));
  }

  return {
    ofKey: (key) => h("span", { class: "row-tools" },
      button("change", () => edit(key), `change ${key}`),
      button("delete", () => done({
        title: `Delete ${JSON.stringify(key)} of ${label}?`,
        words: "Its value is gone for good.",
        yes: "Delete it", act: () => change({ do: "delete", ...which, key }),
      }, () => `Deleted ${JSON.stringify(key)}.`), `delete ${key}`)),

    restore: (bookmark, began) => button("go back", () => done({
      title: `Let ${label} go back to before ${began}?`,
      words: "It is reset and built anew, with its keys, its database, its alarm and timers as they were then; what came after is undone. It stays in the history, so you can come back.",
      yes: "Go back", act: () => change({ do: "restore", ...which, to: bookmark }),
    }, () => `It is as it was before ${began}.`), `go back to before ${began}`),

    ofTimer: (timer) => button("run now", ring(timer), `run ${timer} now`),

    // `goBack` is called once the object is gone.
    ofObject: ({ hasAlarm, goBack }) => h("div", { class: "tools", role: "group", "aria-label": "changes" },
      button("Add a key", () => edit(null)),
      hasAlarm ? button("Run its alarm now", ring(null)) : null,
      button("Evict from memory", () => done({
        title: `Evict ${label}?`,
        words: "It leaves memory, and what it keeps in variables is gone. What is stored stays; the next call builds it anew.",
        yes: "Evict it", act: () => change({ do: "evict", ...which }),
      }, () => "Evicted.")),
      button("Reset (abort)", () => done({
        title: `Reset ${label}?`,
        words: "What it does now ends: its callers get an error, its web sockets are closed, what it has not committed is gone. What is stored stays.",
        yes: "Reset it", act: () => change({ do: "abort", ...which }),
      }, () => "Reset.")),
      button("Delete the object", async () => {
        const isDone = await question({
          title: `Delete all of ${label}?`,
          words: "All its keys, its database, its alarm and timers are gone for good.",
          yes: "Delete all of it", act: () => change({ do: "delete", ...which }),
        });
        if (isDone) goBack();
      })),
  };

  function ring(timer) {
    let result = null;
    const what = timer === null ? "the alarm" : `the timer ${JSON.stringify(timer)}`;
    return () => done({
      title: `Run ${what} of ${label} now?`,
      words: "Its handler runs as if its time had come; after that it is not run again for that time.",
      yes: "Run it now", act: async () => { result = await change({ do: "alarm", ...which, timer }); },
    }, () => {
      if (!result.ran) return "There was nothing to run.";
      return result.error === null ? `The handler of ${what} has run.` : `The handler of ${what} failed: ${result.error}`;
    });
  }
}
