// What the tables share: rows that stay the same elements while their texts change, and pages.

import { announce, debounced, element, setText, setTitle } from "./dom.js";
import { exact } from "./format.js";

/** Rows of a page. */
export const PAGE = 50;

/** So long is waited for a button of the mouse to be released; it may have been outside of the window. */
const PRESSED_MILLIS = 5_000;

/**
 * The rows of a table by their keys. A row that stays keeps its element, and the one with the focus is never moved in
 * the document, the others move round it: focus, selection and scrolling survive every update.
 */
export class Rows {
  #body;
  #rows = new Map();
  #make;
  #fill;
  #empty;
  #pressedAt = -Infinity;
  #put = null;

  /**
   * `make(key)` gives a row, `fill(row, item)` writes it. `columns` is how many cells wide the line is that says that
   * there is nothing.
   */
  constructor(table, { columns, make, fill }) {
    this.#body = element("tbody");
    this.#make = make;
    this.#fill = fill;
    this.#empty = element("tr", { className: "empty" }, element("td", { colSpan: columns }));
    table.append(this.#body);
    // What is pressed does not slip away before it is released.
    this.#body.addEventListener("pointerdown", () => (this.#pressedAt = performance.now()));
    addEventListener("pointerup", () => this.#released());
    addEventListener("pointercancel", () => this.#released());
    document.addEventListener("selectionchange", debounced(200, () => {
      if (!this.isSelected) this.#put?.();
    }));
  }

  get body() {
    return this.#body;
  }

  /** Shows these items, in this order, each with its key; without any, `nothing` instead. */
  show(items, key, nothing) {
    if (performance.now() < this.#pressedAt + PRESSED_MILLIS || this.isSelected) {
      this.#put = () => this.show(items, key, nothing);
      return;
    }
    this.#put = null;
    const focused = this.#body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
    const focusedAt = focused ? [...this.#body.children].indexOf(focused) : -1;
    const old = this.#rows;
    this.#rows = new Map();
    const rows = items.map((item) => {
      const name = key(item);
      const row = old.get(name) ?? this.#make(name);
      old.delete(name);
      this.#rows.set(name, row);
      this.#fill(row, item);
      return row;
    });
    for (const row of old.values()) row.remove();
    this.#order(rows, rows.indexOf(focused));
    this.#tell(rows.length === 0 ? nothing : null);
    if (focused && !focused.isConnected) {
      const heir = rows[Math.min(focusedAt, rows.length - 1)]?.querySelector("button");
      heir?.focus({ preventScroll: true });
    }
  }

  /** Whether text in the table is selected: then nothing changes until it no longer is. */
  get isSelected() {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && selection.containsNode(this.#body, true);
  }

  /** Nothing is held back any longer: other rows are wanted. */
  release() {
    if (this.isSelected) document.getSelection().removeAllRanges();
  }

  #released() {
    if (this.#pressedAt === -Infinity) return;
    this.#pressedAt = -Infinity;
    // After the click that follows.
    setTimeout(() => this.#put?.());
  }

  #order(rows, fixed) {
    const anchor = Math.max(0, fixed);
    if (rows.length === 0) return;
    if (!rows[anchor].isConnected || fixed < 0) {
      if (this.#body.firstElementChild !== rows[anchor]) this.#body.prepend(rows[anchor]);
    }
    for (let i = anchor - 1; i >= 0; i -= 1) {
      if (rows[i].nextElementSibling !== rows[i + 1]) this.#body.insertBefore(rows[i], rows[i + 1]);
    }
    for (let i = anchor + 1; i < rows.length; i += 1) {
      if (rows[i - 1].nextElementSibling !== rows[i]) rows[i - 1].after(rows[i]);
    }
  }

  #tell(text) {
    if (text === null) {
      this.#empty.remove();
    } else {
      setText(this.#empty.firstElementChild, text);
      if (!this.#empty.isConnected) this.#body.append(this.#empty);
    }
  }
}

/** Which part of a list is shown, and the buttons that change it. */
export class Pager {
  offset = 0;
  #matched = 0;
  #text = element("span", { className: "number" });
  #buttons;
  #what;

  /** `turned()` is called when another page is wanted. */
  constructor(place, what, turned) {
    this.#what = what;
    const turn = (name, title, to) => {
      const button = element("button", { type: "button", textContent: name, title, "aria-label": `${title} of ${what}` });
      button.addEventListener("click", () => {
        // Not `disabled`, which would drop the focus.
        if (button.getAttribute("aria-disabled") === "true") return;
        this.offset = Math.min(this.#last, Math.max(0, to()));
        turned();
        announce(`${what} ${exact(this.offset + 1)} to ${exact(Math.min(this.#matched, this.offset + PAGE))} of ${exact(this.#matched)}`);
      });
      return button;
    };
    this.#buttons = [
      turn("«", "First page", () => 0),
      turn("‹", "Previous page", () => this.offset - PAGE),
      turn("›", "Next page", () => this.offset + PAGE),
      turn("»", "Last page", () => this.#last),
    ];
    place.append(this.#text, ...this.#buttons);
  }

  get #last() {
    return Math.max(0, Math.ceil(this.#matched / PAGE) - 1) * PAGE;
  }

  /** There is an answer. Whether the page is beyond the end, and another one has to be asked for. */
  show({ total, matched }, shown) {
    this.#matched = matched;
    if (this.offset > this.#last) {
      this.offset = this.#last;
      return true;
    }
    const range = shown === 0 ? "0" : `${exact(this.offset + 1)}–${exact(this.offset + shown)}`;
    setText(this.#text, `${range} of ${exact(matched)}${matched === total ? "" : ` (${exact(total)} ${this.#what.toLowerCase()})`}`);
    this.#buttons.forEach((button, i) => {
      const off = i < 2 ? this.offset === 0 : this.offset >= this.#last;
      button.setAttribute("aria-disabled", String(off));
    });
    return false;
  }
}

/** Writes a cell that shows a text, and the rest of it in a tooltip. */
export function setCell(cell, text, title = "") {
  setText(cell, text);
  setTitle(cell, title);
}

/** A head of plain column titles; each `[title, className]`. */
export function head(table, titles) {
  table.append(element("thead", {}, element("tr", {}, ...titles.map(([title, className]) => element("th", { scope: "col", className: className ?? "", textContent: title })))));
}
