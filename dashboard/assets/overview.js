// The head of the page: what the server is, and how it is doing now.

import { byId, setText } from "./dom.js";
import { byteRate, bytes, count, duration, exact, foreign, foreignTitle, micros, rate } from "./format.js";

/** A percentile stays for so long when nothing more is timed. */
const LATENCY_SECONDS = 10;

/** Messages that somebody does not get: by a full queue, by the end of a session, by a rate. */
const DROPS = ["dropped", "lost", "rate_limited"];

export class Overview {
  #status = null;
  #receivedAt = 0;
  #lost = false;

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.#showUptime();
    }, 1000);
  }

  get status() {
    return this.#status;
  }

  /** There is a new status. */
  show(status) {
    this.#status = status;
    this.#receivedAt = performance.now();
    setText(byId("name"), foreign(status.name));
    byId("name").title = foreignTitle(status.name);
    document.title = `${foreign(status.name)} · network-system`;
    setText(byId("version"), foreign(status.version, 32));
    this.lost = false;
  }

  /** Whether the server does not answer. */
  set lost(lost) {
    this.#lost = lost;
    const state = lost ? "lost" : (this.#status?.state ?? "waiting");
    const shown = byId("state");
    shown.dataset.state = state;
    setText(shown, lost ? "connection lost" : this.#status ? foreign(state, 32) : "connecting");
    document.body.classList.toggle("lost", lost);
    this.#showUptime();
  }

  #showUptime() {
    if (!this.#status || this.#lost) return;
    const since = this.#status.state === "stopped" ? 0 : (performance.now() - this.#receivedAt) / 1000;
    setText(byId("uptime"), duration(Math.floor(this.#status.uptime_seconds + since)));
  }

  /** There are new samples. */
  tiles(history) {
    const limit = this.#status?.limits?.max_connections;
    const suspended = history.last("suspended");
    const some = suspended ? `${exact(suspended)} suspended` : limit ? `of ${exact(limit)}` : "";
    tile("connections", exact(history.last("connections")), some ? `${some}, ${changes(history)}` : changes(history));
    tile("messages-in", rate(history.last("messages_received")), byteRate(history.last("bytes_received")));
    tile("messages-out", rate(history.last("messages_sent")), byteRate(history.last("bytes_sent")));
    const p99 = history.lastOf("handler_p99_us", LATENCY_SECONDS);
    tile("latency", micros(p99), p99 === null ? "nothing timed" : `p50 ${micros(history.lastOf("handler_p50_us", LATENCY_SECONDS))}`);
    tile("queued", bytes(history.last("queued_bytes")), "in all sessions");
    const resident = history.last("resident_bytes");
    tile("memory", bytes(resident ?? history.last("buffer_bytes")), resident === null ? "in buffers" : `${bytes(history.last("buffer_bytes"))} in buffers`);
    const dropped = DROPS.reduce((sum, name) => sum + (history.last(name) ?? 0), 0);
    tile("drops", rate(dropped), `${count(DROPS.reduce((sum, name) => sum + history.sum(name), 0))} in 15 min`, dropped > 0);
    const errors = history.last("errors");
    tile("errors", rate(errors), `${count(history.sum("errors"))} in 15 min`, errors > 0);
  }
}

const changes = (history) => `+${count(history.last("opened"))} −${count(history.last("closed"))}/s`;

function tile(name, value, note, bad = false) {
  const shown = byId(`tile-${name}`);
  setText(shown, value);
  setText(byId(`note-${name}`), note);
  shown.parentElement.classList.toggle("bad", bad);
}
