// Everything about one session, and what an operator can do with it.

import { ApiError, get, post } from "./api.js";
import { byId, element, openDialog, setText, setTitle } from "./dom.js";
import { bytesExact, duration, exact, foreign, foreignTitle, micros } from "./format.js";

const LIST = 100;

const list = (values) => (values.length === 0 ? "none" : values.slice(0, LIST).map((value) => foreign(value, 128)).join(", ") + (values.length > LIST ? `, and ${exact(values.length - LIST)} more` : ""));

/** Title and text of each line; lines without a text (undefined) are left out. */
const SECTIONS = [
  ["Session", [
    ["Client", (s) => s.client_id],
    ["Identity", (s) => s.identity ?? "none"],
    ["State", (s) => s.state],
    ["Transport", (s) => s.transport],
    ["Remote", (s) => s.remote],
    ["Local", (s) => s.local],
    ["Connected", (s) => duration(s.connected_seconds)],
    ["Idle", (s) => duration(s.idle_seconds)],
    ["Pipeline", (s) => list(s.pipeline ?? [])],
    ["Groups", (s) => list(s.groups ?? [])],
  ]],
  ["Traffic", [
    ["Messages in", (s) => exact(s.messages_received)],
    ["Messages out", (s) => exact(s.messages_sent)],
    ["Bytes in", (s) => bytesExact(s.bytes_received)],
    ["Bytes out", (s) => bytesExact(s.bytes_sent)],
    ["Queued", (s) => `${exact(s.queued_messages)} messages, ${bytesExact(s.queued_bytes)}`],
    ["Buffers", (s) => bytesExact(s.buffer_bytes)],
    ["Dropped", (s) => exact(s.dropped)],
    ["Rate limited", (s) => (s.rate_limited ? exact(s.rate_limited) : undefined)],
    ["Errors", (s) => exact(s.errors)],
    ["Round trip", (s) => micros(s.round_trip_us)],
  ]],
  ["Reliable session", [
    ["Unacknowledged", (s) => (s.reliable ? `${exact(s.unacknowledged_messages)} messages, ${bytesExact(s.unacknowledged_bytes)}` : undefined)],
    ["Resumed", (s) => (s.reliable ? `${exact(s.resumes)} times` : undefined)],
  ]],
  ["TLS", [
    ["Version", (s) => s.tls?.version],
    ["Cipher suite", (s) => s.tls?.cipher_suite],
    ["Server name", (s) => s.tls?.server_name],
    ["ALPN", (s) => s.tls?.alpn],
    ["Peer's certificate", (s) => (s.tls ? (s.tls.peer ?? "none") : undefined)],
  ]],
  ["WebSocket", [
    ["Path", (s) => s.websocket?.path],
    ["Subprotocol", (s) => (s.websocket ? (s.websocket.subprotocol ?? "none") : undefined)],
  ]],
];

export class Details {
  #dialog = byId("details");
  #id = null;
  #access;
  #changed;
  #title = element("h2", { id: "details-title" });
  #note = element("p", { className: "note gone", role: "status" });
  #sections = [];
  #data;
  #actions;
  #actionsSection;
  #denied;
  #result = element("p", { className: "result", role: "status" });
  #ended = false;
  #connectedSeconds = 0;

  /** `changed()` asks for the session anew; `closed(id)` when the panel has closed. */
  constructor(access, changed, closed) {
    this.#access = access;
    this.#changed = changed;
    this.#build();
    this.#dialog.addEventListener("close", () => {
      const id = this.#id;
      this.#id = null;
      closed(id);
    });
    // A click beside the panel closes it; one that began inside does not.
    this.#dialog.addEventListener("pointerdown", ({ target, clientX }) => {
      if (target === this.#dialog && clientX < this.#dialog.getBoundingClientRect().left) this.#dialog.close();
    });
    access.addEventListener("change", () => {
      this.#showActions();
      // The button that had the focus is gone; after the other dialog has given it back.
      if (this.isOpen && access.admin) setTimeout(() => byId("send-text").focus());
    });
  }

  get isOpen() {
    return this.#id !== null;
  }

  /** Shows a session. */
  open(id) {
    this.#id = id;
    this.#ended = false;
    this.#connectedSeconds = 0;
    this.#dialog.querySelectorAll("input, textarea").forEach((field) => (field.value = ""));
    setText(this.#title, `Session ${id}`);
    this.#say("");
    setText(this.#note, "");
    this.#sections.forEach(({ section }) => (section.hidden = true));
    this.#data.section.hidden = true;
    // Until what stands above it is there: a button does not move away under the pointer.
    this.#actionsSection.hidden = true;
    this.#showActions();
    openDialog(this.#dialog);
    this.#dialog.scrollTop = 0;
    this.#changed();
  }

  async refresh(signal) {
    const id = this.#id;
    if (this.#ended) return;
    let session;
    try {
      session = await get(`sessions/${id}`, {}, { signal });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404 || id !== this.#id) throw error;
      this.#end();
      return;
    }
    if (id !== this.#id) return;
    // A server that was started again counts its sessions from 1: this is another one.
    if (session.connected_seconds < this.#connectedSeconds - 1) {
      this.#end();
      return;
    }
    this.#connectedSeconds = session.connected_seconds;
    this.#show(session);
  }

  #end() {
    this.#ended = true;
    const isKnown = this.#sections.some(({ section }) => !section.hidden);
    setText(this.#note, isKnown ? "This session has ended. What it was last seen with:" : "This session has ended.");
    this.#actionsSection.hidden = false;
    this.#showActions();
  }

  #show(session) {
    for (const { section, lines } of this.#sections) {
      let any = false;
      for (const { row, value, text } of lines) {
        const shown = text(session);
        row.hidden = shown === undefined || shown === null;
        if (row.hidden) continue;
        any = true;
        setText(value, foreign(shown, 4096));
        setTitle(value, foreignTitle(shown, 4096));
      }
      section.hidden = !any;
    }
    this.#showData(session);
    this.#actionsSection.hidden = false;
  }

  #showData({ data, data_count: all }) {
    const { section, rows, note } = this.#data;
    const entries = Object.entries(data ?? {});
    section.hidden = entries.length === 0 && !all;
    const seen = JSON.stringify(entries);
    if (seen !== this.#data.seen) {
      this.#data.seen = seen;
      rows.replaceChildren(...entries.map(([key, value]) => element("div", {}, element("dt", {}, element("bdi", { textContent: foreign(key, 64) })), element("dd", {}, element("bdi", { textContent: foreign(value, 256) })))));
    }
    setText(note, all > entries.length ? (entries.length === 0 ? `Entries: ${exact(all)}. They are shown with the admin token.` : `and ${exact(all - entries.length)} more`) : "");
  }

  #build() {
    const close = element("button", { type: "button", textContent: "Close" });
    close.addEventListener("click", () => this.#dialog.close());
    this.#dialog.append(element("div", { className: "dialog-head" }, this.#title, close), this.#note);
    for (const [title, lines] of SECTIONS) {
      const pairs = element("dl", { className: "pairs" });
      const section = element("section", { hidden: true }, element("h3", { textContent: title }), pairs);
      const made = lines.map(([name, text]) => {
        const value = element("bdi");
        const row = element("div", {}, element("dt", { textContent: name }), element("dd", {}, value));
        pairs.append(row);
        return { row, value, text };
      });
      this.#sections.push({ section, lines: made });
      this.#dialog.append(section);
    }
    const rows = element("dl", { className: "pairs" });
    const note = element("p", { className: "note" });
    this.#data = { rows, note, seen: "", section: element("section", { hidden: true }, element("h3", { textContent: "Data" }), rows, note) };
    this.#actionsSection = this.#buildActions();
    this.#dialog.append(this.#data.section, this.#actionsSection);
  }

  #buildActions() {
    const text = element("textarea", { rows: 2, id: "send-text", required: true, spellcheck: false });
    const send = element("form", { className: "action" }, element("label", { htmlFor: "send-text", textContent: "Message, as text" }), text, element("button", { type: "submit", textContent: "Send message" }));
    send.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#act(send, "messages", { text: text.value }, "Queued for sending.").then((done) => {
        if (done) text.value = "";
      });
    });
    const reason = element("input", { type: "text", id: "disconnect-reason", maxLength: 200, placeholder: "disconnected by an operator", autocomplete: "off" });
    const disconnect = element("form", { className: "action" }, element("label", { htmlFor: "disconnect-reason", textContent: "Reason, which the peer is told" }), reason, element("button", { type: "submit", className: "danger", textContent: "Disconnect" }));
    disconnect.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#act(disconnect, "disconnect", { reason: reason.value.trim() || reason.placeholder }, "Disconnecting.");
    });
    this.#actions = element("div", {}, send, disconnect);
    const unlock = element("button", { type: "button", textContent: "Unlock" });
    unlock.addEventListener("click", () => this.#access.open());
    this.#denied = { text: element("p", { className: "note" }), unlock };
    return element("section", {}, element("h3", { textContent: "Actions" }), this.#denied.text, unlock, this.#actions, this.#result);
  }

  #showActions() {
    const { admin, readOnly } = this.#access;
    this.#actions.hidden = !admin || this.#ended;
    this.#denied.unlock.hidden = admin || readOnly || this.#ended;
    this.#denied.text.hidden = admin && !this.#ended;
    setText(this.#denied.text, this.#ended ? "There is nothing left to do with it." : readOnly ? "This server is read-only: no admin token is configured." : "Sending and disconnecting need the admin token.");
  }

  async #act(form, path, body, done) {
    const id = this.#id;
    const button = form.querySelector("button");
    if (button.getAttribute("aria-disabled") === "true") return false;
    button.setAttribute("aria-disabled", "true");
    this.#say("…");
    try {
      await post(`sessions/${id}/${path}`, body);
      if (id === this.#id) this.#say(done);
      return true;
    } catch (error) {
      if (id === this.#id) this.#say(`Not done: ${foreign(error.message, 300)}${error.code ? ` (${foreign(error.code, 64)})` : ""}`, true);
      if (error.status === 401) this.#access.drop();
      return false;
    } finally {
      button.removeAttribute("aria-disabled");
      if (id === this.#id) this.#changed();
    }
  }

  #say(text, bad = false) {
    setText(this.#result, text);
    this.#result.classList.toggle("bad", bad);
  }
}
