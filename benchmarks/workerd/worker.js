// The same objects as in ../writes.py and ../calls.py, and a worker that calls them many times.
//
// One request asks for a whole round: the worker loops, and whoever sent the request takes the time.
// A clock inside of workerd stands still while code runs.

import { DurableObject } from "cloudflare:workers";

export class Counter extends DurableObject {
  async increment() {
    const value = ((await this.ctx.storage.get("value")) ?? 0) + 1;
    this.ctx.storage.put("value", value);
    return value;
  }

  async method() {
    return 1;
  }

  async fetch(request) {
    return new Response(null, { status: 204 });
  }
}

async function repeat(count, call) {
  for (let number = 0; number < count; number++) await call();
}

function together(callers, count, call) {
  const each = Array.from({ length: callers }, (_, caller) => repeat(count, () => call(caller)));
  return Promise.all(each);
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const count = Number(url.searchParams.get("count"));
    const callers = Number(url.searchParams.get("callers") ?? 1);
    const objects = Number(url.searchParams.get("objects") ?? 1);
    const stubs = Array.from({ length: objects }, (_, number) =>
      env.COUNTERS.get(env.COUNTERS.idFromName(`${objects}: ${number}`)),
    );
    const calls = {
      "/fetch": (caller) => stubs[caller % objects].fetch("https://object/path?query=1"),
      "/method": (caller) => stubs[caller % objects].method(),
      "/increment": (caller) => stubs[caller % objects].increment(),
    };
    const call = calls[url.pathname];
    if (call === undefined) return new Response("no such question", { status: 404 });
    await together(callers, count, call);
    return new Response("done");
  },
};
