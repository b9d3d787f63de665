// Who may do what: the token, and the form that asks for it.

import { get, hasToken, setToken } from "./api.js";
import { announce, byId, element, openDialog, setText } from "./dom.js";
import { foreign } from "./format.js";

/** Fires `change` when what is allowed changes, and `token` when requests can be made again. */
export class Access extends EventTarget {
  admin = false;
  readOnly = false;
  /** Whether reading needs the token, too. */
  #needed = false;
  #dialog = byId("unlock");
  #title = element("h2", { id: "unlock-title" });
  #why = element("p");
  #field = element("input", { type: "password", id: "token", autocomplete: "off", required: true, spellcheck: false });
  #result = element("p", { className: "result bad", role: "alert" });
  #form;
  #submit = element("button", { type: "submit", textContent: "Unlock" });

  constructor() {
    super();
    const cancel = element("button", { type: "button", textContent: "Close" });
    cancel.addEventListener("click", () => this.#dialog.close());
    this.#form = element("form", {}, element("label", { htmlFor: "token", textContent: "Token" }), this.#field, this.#result, element("div", { className: "buttons" }, this.#submit, cancel));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#try();
    });
    const close = element("button", { type: "button", textContent: "Close" });
    close.addEventListener("click", () => this.#dialog.close());
    this.#dialog.append(this.#title, this.#why, this.#form, element("div", { className: "buttons only-read" }, close));
    // What was typed does not stay behind.
    this.#dialog.addEventListener("close", () => {
      this.#field.value = "";
      setText(this.#result, "");
    });
    byId("access").addEventListener("click", () => (this.admin ? this.lock() : this.open()));
  }

  /** What a status says about this page's rights. */
  learn(status) {
    this.#needed = false;
    this.#set(status.admin === true, status.read_only === true);
  }

  /** Asks for the token, or says why there is none. */
  open() {
    const readOnly = this.readOnly && !this.#needed;
    setText(this.#title, readOnly ? "Read-only" : this.#needed ? "This dashboard needs a token" : "Unlock");
    setText(this.#why, readOnly
      ? "This server is read-only: no admin token is configured. Start it with one to disconnect sessions and send messages from here."
      : this.#needed
        ? "It can be reached from other machines, so that reading needs the token, too."
        : "With the admin token, sessions can be disconnected and sent messages. The token stays in this page's memory until the page is left.");
    this.#form.hidden = readOnly;
    this.#dialog.querySelector(".only-read").hidden = !readOnly;
    openDialog(this.#dialog);
    if (!readOnly) this.#field.focus();
  }

  get isNeeded() {
    return this.#needed;
  }

  /** The server refuses to be read without a token. */
  required() {
    this.#needed = true;
    this.#set(false, false);
    this.open();
  }

  /** The server no longer takes the token, if there is one: it is forgotten. Whether there was. */
  drop() {
    if (!hasToken()) return false;
    setToken(null);
    this.#set(false, this.readOnly);
    announce("The token is no longer accepted");
    return true;
  }

  /** Gives the rights up. */
  lock() {
    setToken(null);
    this.#set(false, this.readOnly);
    announce("Locked");
    this.dispatchEvent(new Event("token"));
  }

  async #try() {
    const candidate = this.#field.value.trim();
    if (candidate === "" || this.#submit.getAttribute("aria-disabled") === "true") return;
    this.#submit.setAttribute("aria-disabled", "true");
    setText(this.#result, "");
    try {
      // What no header can carry is no token.
      if (/[^\u0021-\u007e]/.test(candidate)) throw new WrongToken();
      // No other request carries it before it is known to be right.
      const status = await get("status", {}, { bearer: candidate });
      if (!status.admin) throw new WrongToken();
      setToken(candidate);
      this.learn(status);
      this.#dialog.close();
      announce("Unlocked");
      this.dispatchEvent(new Event("token"));
    } catch (error) {
      const wrong = error instanceof WrongToken || error.status === 401 || error.status === 403;
      setText(this.#result, wrong ? "That is not the token." : `Could not be checked: ${foreign(error.message, 200)}`);
      this.#field.select();
      this.#field.focus();
    } finally {
      this.#submit.removeAttribute("aria-disabled");
    }
  }

  #set(admin, readOnly) {
    const button = byId("access");
    setText(button, admin ? "Lock" : readOnly ? "Read-only" : "Unlock");
    button.classList.toggle("active", admin);
    if (admin === this.admin && readOnly === this.readOnly) return;
    this.admin = admin;
    this.readOnly = readOnly;
    this.dispatchEvent(new Event("change"));
  }
}

class WrongToken extends Error {}
