// The table of sessions. The server sorts, filters and pages: the page never holds more than fifty.

import { get } from "./api.js";
import { announce, byId, debounced, element, setText } from "./dom.js";
import { bytes, count, duration, exact, foreign, foreignTitle, micros } from "./format.js";
import { PAGE, Pager, Rows, setCell } from "./table.js";

const STATES = ["connecting", "connected", "suspended", "disconnecting"];
const TRANSPORTS = ["tcp", "tls", "unix", "ws", "wss", "udp", "mem"];

/** Field, title, how it is shown; the class is the width. Numbers sort from the largest at first. */
const COLUMNS = [
  { key: "id", title: "ID", width: "id", text: true },
  { key: "client_id", title: "Client", width: "client", text: true },
  { key: "transport", title: "Transport", width: "word", text: true },
  { key: "remote", title: "Remote", width: "remote", text: true },
  { key: "connected_seconds", title: "Connected", width: "age", format: duration },
  { key: "idle_seconds", title: "Idle", format: duration },
  { key: "messages_received", title: "Msgs in", format: count },
  { key: "messages_sent", title: "Msgs out", format: count },
  { key: "bytes_received", title: "Bytes in", format: bytes },
  { key: "bytes_sent", title: "Bytes out", format: bytes },
  { key: "queued_bytes", title: "Queued", format: bytes },
  { key: "buffer_bytes", title: "Buffers", format: bytes },
  { key: "dropped", title: "Dropped", format: count, bad: true },
  { key: "errors", title: "Errors", format: count, bad: true },
  { key: "round_trip_us", title: "RTT", format: micros },
  { key: "groups", title: "Groups", format: exact },
];

export class Sessions {
  #changed;
  #rows;
  #pager;
  #heads = new Map();
  #sort = "id";
  #descending = false;
  #filter = "";
  #transport = "";
  #state = "";
  #group = "";
  #current = null;

  /** `open(id)` shows a session's details; `changed()` asks for the table anew. */
  constructor(open, changed) {
    this.#changed = () => {
      this.#rows.release();
      changed();
    };
    const table = byId("sessions-table");
    table.append(this.#head());
    this.#rows = new Rows(table, { columns: COLUMNS.length, make: (id) => this.#make(id), fill: (row, session) => this.#fill(row, session) });
    this.#pager = new Pager(byId("sessions-pager"), "Sessions", this.#changed);
    for (const name of TRANSPORTS) byId("sessions-transport").append(element("option", { value: name, textContent: name }));
    for (const name of STATES) byId("sessions-state").append(element("option", { value: name, textContent: name }));
    this.#listen(open);
  }

  /** Whether the table wants to be refreshed by itself. */
  get isLive() {
    return byId("sessions-live").checked;
  }

  /** Asks for the page that is chosen, and shows it. */
  async refresh(signal) {
    const answer = await get("sessions", {
      sort: this.#sort, order: this.#descending ? "desc" : "asc", filter: this.#filter, transport: this.#transport, state: this.#state, group: this.#group,
      offset: this.#pager.offset, limit: PAGE,
    }, { signal });
    if (this.#pager.show(answer, answer.sessions.length)) {
      this.#changed();
      return;
    }
    const nothing = answer.total === 0 ? "No sessions." : "No session is like that.";
    this.#rows.show(answer.sessions, (session) => session.id, nothing);
    setText(byId("sessions-note"), this.#rows.isSelected ? "held while text is selected" : "");
    this.#roving();
    byId("sessions-table").removeAttribute("aria-busy");
  }

  /** Shows the sessions of a group; of all for "". */
  showGroup(name) {
    this.#group = name;
    this.#pager.offset = 0;
    const button = byId("sessions-group");
    button.hidden = name === "";
    setText(button, `Group: ${foreign(name, 32)} ×`);
    button.title = "All groups again";
    this.#changed();
  }

  /** The focus goes to the session's row, or to the table if it is gone. */
  focus(id) {
    const button = this.#rows.body.querySelector(`button[data-id="${Number(id)}"]`) ?? byId("sessions-scroll");
    button.focus({ preventScroll: true });
  }

  #head() {
    const row = element("tr");
    for (const { key, title, width, text } of COLUMNS) {
      const button = element("button", { type: "button" }, title, element("span", { className: "arrow", "aria-hidden": "true" }));
      const cell = element("th", { scope: "col", className: `${width ?? "short"}${text ? "" : " number"}` }, button);
      button.addEventListener("click", () => this.#sortBy(key, text));
      this.#heads.set(key, cell);
      row.append(cell);
    }
    this.#showSort();
    return element("thead", {}, row);
  }

  #sortBy(key, text) {
    this.#descending = this.#sort === key ? !this.#descending : !text;
    this.#sort = key;
    this.#pager.offset = 0;
    this.#showSort();
    this.#changed();
    const { title } = COLUMNS.find((column) => column.key === key);
    announce(`Sorted by ${title}, ${this.#descending ? "descending" : "ascending"}`);
  }

  #showSort() {
    for (const [key, cell] of this.#heads) {
      if (key === this.#sort) cell.setAttribute("aria-sort", this.#descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  }

  #make(id) {
    const row = element("tr");
    for (const { key, text, width } of COLUMNS) {
      const cell = element(key === "id" ? "th" : "td", { className: `${width ?? "short"}${text ? "" : " number"}` });
      if (key === "id") {
        cell.scope = "row";
        const button = element("button", { type: "button", className: "link", textContent: String(id), tabIndex: -1, "aria-haspopup": "dialog", "data-id": String(id) });
        button.setAttribute("aria-label", `Session ${id}, details`);
        cell.append(button, element("span", { className: "badge", hidden: true }));
      } else if (key === "client_id") {
        cell.append(element("bdi"), element("bdi", { className: "identity" }));
      }
      row.append(cell);
    }
    return row;
  }

  #fill(row, session) {
    COLUMNS.forEach(({ key, format, bad }, i) => {
      const cell = row.children[i];
      const value = session[key];
      if (key === "id") {
        const badge = cell.lastElementChild;
        badge.hidden = session.state === "connected";
        setText(badge, foreign(session.state, 24));
      } else if (key === "client_id") {
        setCell(cell.firstElementChild, foreign(value, 48), foreignTitle(value, 48));
        const identity = session.identity;
        setCell(cell.lastElementChild, identity === null ? "" : foreign(identity, 32), foreignTitle(identity, 32));
      } else if (format) {
        setText(cell, format(value));
        if (bad) cell.classList.toggle("bad", value > 0);
      } else {
        setCell(cell, foreign(value, 48), foreignTitle(value, 48));
      }
    });
  }

  #listen(open) {
    const body = this.#rows.body;
    body.addEventListener("click", (event) => {
      // Whoever selects text in a row does not want its details.
      const row = event.target.closest("tr:not(.empty)");
      if (row && (event.target.closest("button") || document.getSelection().isCollapsed)) open(Number(row.querySelector("button").dataset.id));
    });
    body.addEventListener("keydown", (event) => this.#move(event));
    body.addEventListener("focusin", (event) => {
      if (event.target.matches("button")) {
        this.#current = event.target.dataset.id;
        this.#roving();
      }
    });
    const filter = byId("sessions-filter");
    const filtered = () => {
      if (this.#filter === filter.value.trim()) return;
      this.#filter = filter.value.trim();
      this.#pager.offset = 0;
      this.#changed();
    };
    filter.addEventListener("input", debounced(250, filtered));
    filter.addEventListener("change", filtered);
    byId("sessions-transport").addEventListener("change", (event) => {
      this.#transport = event.target.value;
      this.#pager.offset = 0;
      this.#changed();
    });
    byId("sessions-state").addEventListener("change", (event) => {
      this.#state = event.target.value;
      this.#pager.offset = 0;
      this.#changed();
    });
    byId("sessions-group").addEventListener("click", () => {
      this.showGroup("");
      filter.focus();
    });
    byId("sessions-live").addEventListener("change", () => this.#changed());
  }

  /** One row's button is in the order of tabs; arrow keys reach the others. */
  #roving() {
    const buttons = [...this.#rows.body.querySelectorAll("th > button")];
    const current = buttons.find((button) => button.dataset.id === this.#current) ?? buttons[0];
    for (const button of buttons) button.tabIndex = button === current ? 0 : -1;
  }

  #move(event) {
    const buttons = [...this.#rows.body.querySelectorAll("th > button")];
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    buttons[Math.min(buttons.length - 1, Math.max(0, to))].focus();
  }
}
