// What happened lately, newest first.

import { get } from "./api.js";
import { byId, debounced, element, setText } from "./dom.js";
import { clock, exact, foreign, foreignTitle, moment } from "./format.js";
import { Rows, head, setCell } from "./table.js";

/** The server keeps as many. */
const KEPT = 512;
/** Rows in the document: so many are laid out without being felt. */
const SHOWN = 100;
const LEVELS = ["trace", "debug", "info", "warn", "error"];
const NAMES = { trace: "trace", debug: "debug", info: "info", warn: "warning", error: "error" };

export class Events {
  #next = 0;
  #events = [];
  #rows;
  #filter = "";
  #suppressed = 0;

  /** `open(id)` shows a session. */
  constructor(open) {
    const table = byId("events-table");
    head(table, [["Time", "time"], ["Level", "level"], ["Event", "kind"], ["Session", "number session"], ["Code", "kind"], ["Text", "text"]]);
    this.#rows = new Rows(table, { columns: 6, make: () => row(open), fill });
    const filter = byId("events-filter");
    filter.addEventListener("input", debounced(150, () => {
      this.#filter = filter.value.trim().toLowerCase();
      this.show();
    }));
    byId("events-level").addEventListener("change", () => this.show());
  }

  /** Whether new events are to be fetched by themselves. */
  get isLive() {
    return byId("events-live").checked;
  }

  async refresh(signal) {
    const answer = await get("events", { since: this.#next }, { signal });
    if (answer.next < this.#next) {
      // Another server, or the same one anew.
      this.#next = 0;
      this.#events = [];
      return;
    }
    const fresh = answer.events.filter(({ seq }) => seq >= this.#next);
    this.#next = answer.next;
    this.#suppressed = answer.suppressed ?? 0;
    if (fresh.length === 0 && this.#events.length > 0) return;
    this.#events = [...this.#events, ...fresh].slice(-KEPT);
    this.show();
  }

  show() {
    const least = Math.max(0, LEVELS.indexOf(byId("events-level").value));
    const matching = this.#events.filter((event) => LEVELS.indexOf(event.level) >= least && this.#matches(event)).reverse();
    this.#rows.show(matching.slice(0, SHOWN), ({ seq }) => seq, this.#events.length === 0 ? "Nothing has happened yet." : "No event is like that.");
    const shown = Math.min(SHOWN, matching.length);
    setText(byId("events-note"), matching.length === 0 ? "" : `${shown === matching.length ? exact(shown) : `the newest ${exact(shown)} of ${exact(matching.length)}`}${matching.length === this.#events.length ? "" : ` that match, of ${exact(this.#events.length)}`}${this.#suppressed > 0 ? `; ${exact(this.#suppressed)} were left out` : ""}`);
  }

  #matches({ kind, code, text, session }) {
    if (this.#filter === "") return true;
    return [kind, code ?? "", text ?? "", session === null ? "" : String(session)].some((part) => String(part).toLowerCase().includes(this.#filter));
  }
}

function row(open) {
  const link = element("button", { type: "button", className: "link" });
  link.addEventListener("click", () => open(Number(link.dataset.id)));
  return element("tr", {}, element("td", { className: "time" }), element("td", { className: "level" }, element("span", { className: "badge" })), element("td", { className: "kind" }),
    element("td", { className: "number session" }, link), element("td", { className: "kind" }), element("td", { className: "text" }));
}

function fill(target, event) {
  const [time, level, kind, session, code, text] = target.children;
  setCell(time, clock(event.at), moment(event.at));
  const badge = level.firstElementChild;
  const known = LEVELS.includes(event.level);
  badge.dataset.level = known ? event.level : "info";
  setText(badge, known ? NAMES[event.level] : foreign(event.level, 16));
  setText(kind, foreign(event.kind, 48));
  const link = session.firstElementChild;
  link.hidden = event.session === null || event.session === undefined;
  if (!link.hidden) {
    link.dataset.id = String(event.session);
    setText(link, String(event.session));
    link.setAttribute("aria-label", `Session ${event.session}, details`);
  }
  setText(code, event.code ? foreign(event.code, 48) : "");
  setCell(text, event.text ? foreign(event.text, 256) : "", foreignTitle(event.text, 256));
}
