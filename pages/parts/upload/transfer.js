// One upload after another, slice by slice. Survives a lost connection by itself and a
// reload once the same file is chosen again: what the server has is asked, never assumed.
// Lives on `window`, so that changing pages of the dashboard does not stop it.

const MEMORY = "speedrail.uploads";

function remembered() {
  try { return JSON.parse(localStorage.getItem(MEMORY)) ?? {}; } catch { return {}; }
}
function remember(key, entry) {
  const all = remembered();
  if (entry) all[key] = entry; else delete all[key];
  try { localStorage.setItem(MEMORY, JSON.stringify(all)); } catch { /* a full or forbidden storage only costs resuming */ }
}

class Refused extends Error {
  constructor(problem) { super(problem.what); this.problem = problem; }
}

// XMLHttpRequest, because fetch tells nothing of a body's progress
function request(method, url, { headers = {}, body = null, signal, onSent = () => {} } = {}) {
  return new Promise((done, fail) => {
    const call = new XMLHttpRequest();
    call.open(method, url);
    for (const [name, value] of Object.entries(headers)) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) => onSent(event.loaded);
    call.onerror = call.ontimeout = () => fail(new Error("offline"));
    call.onabort = () => fail(new DOMException("cancelled", "AbortError"));
    call.onload = () => {
      if (call.status >= 500 && call.status !== 507) return fail(new Error("offline"));
      let answer = {};
      try { answer = JSON.parse(call.responseText || "{}"); } catch { answer = { what: call.responseText }; }
      if (call.status >= 400) return fail(new Refused({ what: "The upload was refused.", mend: "", ...answer, status: call.status }));
      done(answer);
    };
    if (signal) signal.addEventListener("abort", () => call.abort(), { once: true });
    call.send(body);
  });
}

class Transfers {
  constructor(purpose) {
    this.purpose = purpose;
    this.jobs = [];
    this.ticket = "";
    this.busy = false;
    this.onChange = () => {};
    this.onFinished = () => {};
    addEventListener("beforeunload", (event) => { if (this.busy) event.preventDefault(); });
  }

  add(name, key, blob) {
    const job = { name, key: `${this.purpose}|${key}`, blob, size: 0, sent: 0, state: "waiting", rate: 0, abort: new AbortController() };
    this.jobs = this.jobs.filter((other) => other.key !== job.key || other.state !== "failed");
    this.jobs.push(job);
    this.onChange();
    this.#work();
  }

  cancel(job) {
    job.abort.abort();
    this.jobs = this.jobs.filter((other) => other !== job);
    this.forget(job.key);
  }

  // uploads that a reload cut off: the person has to choose the file again
  halfDone() {
    const running = new Set(this.jobs.map((job) => job.key));
    return Object.entries(remembered()).filter(([key]) => key.startsWith(this.purpose + "|") && !running.has(key))
      .map(([key, entry]) => ({ key, ...entry }));
  }

  forget(key) {
    const entry = remembered()[key];
    remember(key, null);
    if (entry) request("DELETE", `/api/uploads/${entry.id}`, { headers: { "X-Upload-Token": entry.token } }).catch(() => {});
    this.onChange();
  }

  async #work() {
    if (this.busy) return;
    this.busy = true;
    for (let job; (job = this.jobs.find((each) => each.state === "waiting"));) {
      try {
        const answer = await this.#transfer(job);
        this.jobs = this.jobs.filter((each) => each !== job);
        this.onFinished(answer);
      } catch (error) {
        if (error.name !== "AbortError") {
          job.state = "failed";
          job.problem = error.problem ?? { what: String(error.message || error), mend: "" };
        }
      }
      this.onChange();
    }
    this.busy = false;
  }

  async #transfer(job) {
    if (typeof job.blob === "function") {
      job.state = "reading";
      job.blob = await job.blob((share) => { job.share = share; this.onChange(); });
    }
    job.size = job.blob.size;
    job.state = "sending";
    const { id, token } = await this.#begin(job);
    const headers = { "X-Upload-Token": token };
    const started = performance.now(), before = job.sent;
    while (job.sent < job.size) {
      const offset = (job.offset = job.sent), slice = job.blob.slice(offset, offset + this.sliceBytes);
      const answer = await this.#persist(job, () => request("PUT", `/api/uploads/${id}?offset=${offset}`, {
        headers, body: slice, signal: job.abort.signal,
        onSent: (bytes) => {
          job.sent = offset + bytes;
          job.rate = (job.sent - before) / (performance.now() - started) * 1000;
          this.onChange();
        },
      }), id, headers);
      job.sent = answer.received;
      remember(job.key, { id, token, name: job.name, size: job.size, sent: job.sent });
    }
    job.state = "finishing";
    this.onChange();
    const answer = await this.#persist(job, () => request("POST", `/api/uploads/${id}/finish`, {
      headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify({ purpose: this.purpose }), signal: job.abort.signal,
    }), id, headers).catch((error) => {
      remember(job.key, null);
      // the answer to the first try was lost: the server is done with it
      if (error.problem?.status === 404 && job.retried) return {};
      throw error;
    });
    remember(job.key, null);
    return answer;
  }

  // the id and token of this file's upload: the remembered one, if the server still knows it
  async #begin(job) {
    const known = remembered()[job.key];
    if (known) {
      try {
        job.sent = (await this.#persist(job, () => this.#received(known))).received;
        return known;
      } catch (error) {
        if (!error.problem) throw error;
        remember(job.key, null);
      }
    }
    const answer = await this.#persist(job, () => request("POST", "/api/uploads", {
      headers: { "X-Upload-Ticket": this.ticket, "Content-Type": "application/json" },
      body: JSON.stringify({ name: job.name, size: job.size }), signal: job.abort.signal,
    }));
    this.ticket = answer.ticket;
    remember(job.key, { id: answer.id, token: answer.token, name: job.name, size: job.size, sent: 0 });
    return answer;
  }

  #received({ id, token }) {
    return request("GET", `/api/uploads/${id}`, { headers: { "X-Upload-Token": token } });
  }

  // again and again while the connection is down; a refusal ends it
  async #persist(job, call, id, headers) {
    for (let wait = 1; ; wait = Math.min(2 * wait, 15)) {
      try {
        const answer = await call();
        if (job.retry) { job.retry = 0; this.onChange(); }
        return answer;
      } catch (error) {
        if (error.name === "AbortError" || error.problem) throw error;
        job.retry = wait;
        job.retried = true;
        this.onChange();
        await new Promise((done) => setTimeout(done, wait * 1000));
        if (job.abort.signal.aborted) throw new DOMException("cancelled", "AbortError");
        if (id && job.state === "sending") {
          const state = await this.#received({ id, token: headers["X-Upload-Token"] }).catch(() => null);
          if (state && state.received !== job.offset) return state;
        }
      }
    }
  }
}

function transfersFor(purpose) {
  const all = (window.speedrailTransfers ??= new Map());
  if (!all.has(purpose)) all.set(purpose, new Transfers(purpose));
  return all.get(purpose);
}
