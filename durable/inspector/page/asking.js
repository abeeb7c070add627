// What is asked of the server, and the reports of the running program.

export const POINTS = 300; // seconds that the plots show
export const reports = [];
const TOKEN = takeToken();

function takeToken() {
  const given = new URLSearchParams(location.search).get("token");
  if (given !== null) {
    sessionStorage.setItem("durable token", given);
    history.replaceState(null, "", location.pathname + location.hash);
  }
  return sessionStorage.getItem("durable token") ?? "";
}

export async function ask(question, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined));
  const response = await fetch(`api/${question}?${query}`, { headers: { authorization: `Bearer ${TOKEN}` }, signal });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

export async function change(what) {
  const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
  const response = await fetch("api/change", { method: "POST", headers, body: JSON.stringify(what) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

let known = null;
export async function about(signal) {
  known ??= await ask("about", {}, signal);
  return known;
}

export async function* said(question, signal) {
  const response = await fetch(`api/${question}`, { headers: { authorization: `Bearer ${TOKEN}` }, signal });
  if (!response.ok) throw new Error((await response.json()).error);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
  }
}

export function showState(text, kind = "") {
  const state = document.getElementById("state");
  state.textContent = text;
  state.className = kind;
}

export async function watch() {
  for (;;) {
    try {
      for await (const report of said("reports")) {
        if (report.stuck) { showState(`process ${report.pid}: its event loop is stuck`, "bad"); continue; }
        report.at = Date.now();
        reports.push(report);
        if (reports.length > POINTS) reports.shift();
        const pids = report.pids ?? [report.pid];
        showState(`running, process ${pids.join(", ")}`, "live");
        document.dispatchEvent(new Event("report"));
      }
      showState("the program has closed the store");
    } catch (error) {
      showState("no program to be watched");
      document.getElementById("state").title = error.message;
    }
    document.dispatchEvent(new Event("report"));
    await new Promise((resume) => setTimeout(resume, 5000));
  }
}
