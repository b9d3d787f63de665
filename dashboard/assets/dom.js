// Elements from text. Nothing that came from the network is ever read as HTML: there is no other way to make an
// element here than by its name, and no other way to fill it than with text.

/** The element with an id that index.html has. */
export const byId = (id) => document.getElementById(id);

/** An element: properties and `aria-*`, `data-*` or `role` attributes, then children (nodes or text). */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "role" || key === "scope" || key.startsWith("aria-") || key.startsWith("data-")) {
      made.setAttribute(key, value);
    } else {
      made[key] = value;
    }
  }
  made.append(...children);
  return made;
}

/** Sets an element's text where it differs. The text node stays, and with it what a reader has selected. */
export function setText(target, text) {
  const node = target.firstChild;
  if (node === null) {
    if (text !== "") target.append(text);
  } else if (node.data !== text) {
    node.data = text;
  }
}

/** Sets the tooltip where it differs; an empty one is none. */
export function setTitle(target, text) {
  if (target.title !== text) {
    if (text === "") target.removeAttribute("title");
    else target.title = text;
  }
}

/** Says something to users of screen readers. */
export function announce(text) {
  byId("announce").textContent = text;
}

/** Calls `act` when nothing has happened for `millis`. */
export function debounced(millis, act) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, millis);
  };
}

/** The page may be a part of an application, whose pages have names of their own in the same store; also in theme.js. */
const PREFIX = "network-system-dashboard.";

/** What `localStorage` has by that name, if it may be used and `allowed` holds. */
export function stored(name, allowed, otherwise) {
  try {
    const value = localStorage.getItem(PREFIX + name);
    return value !== null && allowed(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

/** Keeps a choice, if that is possible. */
export function store(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // The choice holds until the page is left.
  }
}

/** Opens a modal dialog. The browser keeps the focus inside, closes it on Esc, and gives the focus back. */
export function openDialog(dialog) {
  if (!dialog.open) dialog.showModal();
}
