// The smaller tables: groups and listeners.

import { get } from "./api.js";
import { byId, debounced, element, setText } from "./dom.js";
import { bytes, bytesExact, count, duration, exact, foreign, foreignTitle } from "./format.js";
import { PAGE, Pager, Rows, head, setCell } from "./table.js";

const many = (value, unit) => (value ? `${exact(value)}${unit}` : "no limit");

/** A rate in words. */
function perSecond(rate) {
  if (!rate) return "no limit";
  const parts = [];
  if (rate.messages_per_second) parts.push(`${exact(rate.messages_per_second)} messages/s`);
  if (rate.bytes_per_second) parts.push(`${bytesExact(rate.bytes_per_second)}/s`);
  return `${parts.join(", ")}, beyond that ${foreign(rate.when_exceeded, 32)}`;
}

/** What is kept for sessions without a connection. */
function reliable(kept) {
  return kept ? `window ${bytesExact(kept.window)}, kept for ${duration(kept.resume_seconds)}` : "none";
}

export class Groups {
  #rows;
  #pager;
  #filter = "";
  #changed;

  /** `open(name)` shows the sessions of a group. */
  constructor(open, changed) {
    this.#changed = () => {
      this.#rows.release();
      changed();
    };
    const table = byId("groups-table");
    head(table, [["Group", "wide"], ["Members", "number"], ["Broadcasts", "number"], ["Bytes broadcast", "number"]]);
    this.#rows = new Rows(table, {
      columns: 4,
      make: (name) => {
        const button = element("button", { type: "button", className: "link" }, element("bdi", { textContent: foreign(name, 64), title: foreignTitle(name, 64) }));
        button.addEventListener("click", () => open(name));
        return element("tr", {}, element("th", { scope: "row", className: "wide" }, button), ...[0, 1, 2].map(() => element("td", { className: "number" })));
      },
      fill: (row, group) => {
        setText(row.children[1], exact(group.members));
        setText(row.children[2], count(group.messages));
        setText(row.children[3], bytes(group.bytes));
      },
    });
    this.#pager = new Pager(byId("groups-pager"), "Groups", this.#changed);
    const filter = byId("groups-filter");
    filter.addEventListener("input", debounced(250, () => {
      this.#filter = filter.value.trim();
      this.#pager.offset = 0;
      this.#changed();
    }));
  }

  async refresh(signal) {
    const answer = await get("groups", { filter: this.#filter, offset: this.#pager.offset, limit: PAGE }, { signal });
    if (this.#pager.show(answer, answer.groups.length)) {
      this.#changed();
      return;
    }
    this.#rows.show(answer.groups, (group) => group.name, answer.total === 0 ? "No groups." : "No group is named like that.");
  }
}

export class Listeners {
  #rows;
  #limits = "";

  constructor() {
    const table = byId("listeners-table");
    head(table, [["Listener", "wide"], ["Address", "wide"], ["Transport"], ["Accepted", "number"], ["Refused", "number"], ["State"]]);
    this.#rows = new Rows(table, {
      columns: 6,
      make: () => element("tr", {}, element("th", { scope: "row", className: "wide" }), element("td", { className: "wide" }), element("td"), element("td", { className: "number" }), element("td", { className: "number" }), element("td")),
      fill: (row, listener) => {
        const [url, address, transport, accepted, refused, state] = row.children;
        setCell(url, foreign(listener.url, 128), foreignTitle(listener.url, 128));
        setCell(address, foreign(listener.addr, 128), foreignTitle(listener.addr, 128));
        setText(transport, foreign(listener.transport, 16));
        setText(accepted, exact(listener.accepted));
        setText(refused, exact(listener.refused));
        refused.classList.toggle("bad", listener.refused > 0);
        setText(state, listener.accepting ? "accepting" : "not accepting");
        state.classList.toggle("bad", !listener.accepting);
      },
    });
  }

  async refresh(signal) {
    const { listeners } = await get("listeners", {}, { signal });
    // Two listeners can have one URL; their order is the server's.
    this.#rows.show(listeners.map((listener, i) => ({ ...listener, i })), ({ i }) => i, "No listeners.");
  }

  /** The limits of the server, which come with its status. */
  showLimits(limits) {
    const seen = JSON.stringify(limits);
    if (!limits || seen === this.#limits) return;
    this.#limits = seen;
    const lines = [
      ["Connections", exact(limits.max_connections)],
      ["Size of a message", bytesExact(limits.message_size)],
      ["Queue of a session", `${bytesExact(limits.outbox_bytes)}, ${exact(limits.outbox_messages)} messages`],
      ["When it is full", foreign(limits.when_full, 32)],
      ["Rate of a session", perSecond(limits.session_rate)],
      ["Rate of an address", perSecond(limits.ip_rate)],
      ["Rate of the server", perSecond(limits.server_rate)],
      ["Connections accepted", many(limits.handshakes_per_second, "/s")],
      ["From one address", many(limits.handshakes_per_second_per_ip, "/s")],
      ["Memory for queues", limits.memory_budget ? bytesExact(limits.memory_budget) : "no limit"],
      ["Reliable sessions", reliable(limits.reliable)],
    ];
    byId("limits").replaceChildren(...lines.map(([name, value]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))));
  }
}
