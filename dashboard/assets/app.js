// The dashboard's page: what is asked for when, and who shows it.

import { Access } from "./access.js";
import { get } from "./api.js";
import { Details } from "./details.js";
import { byId, setText, store, stored } from "./dom.js";
import { Events } from "./events.js";
import { clock, foreign } from "./format.js";
import { History } from "./history.js";
import { Groups, Listeners } from "./lists.js";
import { Loop } from "./loop.js";
import { Overview } from "./overview.js";
import { Plots } from "./plots.js";
import { Sessions } from "./sessions.js";

const TABS = ["sessions", "groups", "listeners", "events"];
const THEMES = ["auto", "light", "dark"];

const history = new History();
const overview = new Overview();
const access = new Access();
const plots = new Plots(byId("plots"), history);
const sessions = new Sessions((id) => details.open(id), () => {
  // A table that is not live is fetched only then.
  asked = true;
  loop.now("sessions");
});
const groups = new Groups((name) => {
  select("sessions", true);
  sessions.showGroup(name);
}, () => loop.now("groups"));
const listeners = new Listeners();
const events = new Events((id) => details.open(id));
const details = new Details(access, () => loop.now("details"), (id) => {
  if (tab === "sessions" && id !== null) sessions.focus(id);
});
const loop = new Loop({ lost, found, unauthorized, failed, worked });

let tab = "sessions";
let asked = true;
let retryAt = 0;
/** Jobs that the server refuses, and why. */
const failures = new Map();

loop.add("status", 2000, async (signal) => {
  const status = await get("status", {}, { signal });
  overview.show(status);
  access.learn(status);
  listeners.showLimits(status.limits);
});
loop.add("history", 1000, async (signal) => {
  const answer = await get("history", { since: history.next }, { signal });
  if (!history.add(answer)) return;
  overview.tiles(history);
  plots.update();
  setText(byId("footer-note"), `Last sample ${clock(history.time.at(-1) * 1000)}, local time`);
});
loop.add("sessions", 2000, async (signal) => {
  await sessions.refresh(signal);
  asked = false;
}, () => tab === "sessions" && (sessions.isLive || asked));
loop.add("groups", 2000, (signal) => groups.refresh(signal), () => tab === "groups");
loop.add("listeners", 2000, (signal) => listeners.refresh(signal), () => tab === "listeners");
loop.add("events", 1000, (signal) => events.refresh(signal), () => tab === "events" && events.isLive);
loop.add("details", 2000, (signal) => details.refresh(signal), () => details.isOpen);

access.addEventListener("token", () => {
  hideBanner();
  loop.unlock();
});
byId("unlock").addEventListener("close", () => {
  if (access.isNeeded) banner("This dashboard needs a token.", "Enter it", () => access.open());
});
for (const name of ["sessions", "events"]) byId(`${name}-live`).addEventListener("change", () => loop.wake());

tabs();
theme();
choices();
loop.wake();

function lost(error, delay) {
  overview.lost = true;
  retryAt = performance.now() + delay;
  banner(`The server does not answer (${foreign(error.message, 100)}).`, "Try now", () => loop.retry());
  count();
}

function found() {
  overview.lost = false;
  hideBanner();
}

function unauthorized() {
  if (access.drop()) {
    // Reading may be possible without.
    loop.unlock();
  } else {
    access.required();
  }
}

function failed(name, error) {
  failures.set(name, error);
  banner(`${name}: ${foreign(error.message, 200)}`);
}

function worked(name) {
  if (failures.delete(name) && failures.size === 0) hideBanner();
}

function banner(text, button = "", act = null) {
  setText(byId("banner-text"), text);
  setText(byId("banner-count"), "");
  const shown = byId("banner-button");
  setText(shown, button);
  shown.hidden = act === null;
  shown.onclick = act;
  byId("banner").hidden = false;
}

function hideBanner() {
  byId("banner").hidden = true;
}

/** How long it is to the next try, each second. */
function count() {
  if (!loop.isLost) return;
  const seconds = Math.ceil((retryAt - performance.now()) / 1000);
  setText(byId("banner-count"), seconds > 0 ? `Next try in ${seconds} s.` : "Trying…");
  clearTimeout(count.timer);
  count.timer = setTimeout(count, 500);
}

function select(name, focus = false) {
  tab = name;
  for (const one of TABS) {
    const button = byId(`tab-${one}`);
    button.setAttribute("aria-selected", String(one === name));
    button.tabIndex = one === name ? 0 : -1;
    byId(`panel-${one}`).hidden = one !== name;
  }
  if (focus) byId(`tab-${name}`).focus();
  loop.now(name);
}

/** Tabs as everywhere: arrow keys, Home and End. */
function tabs() {
  for (const name of TABS) {
    byId(`tab-${name}`).addEventListener("click", () => select(name));
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      const at = TABS.indexOf(name);
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: TABS.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      select(TABS[(to + TABS.length) % TABS.length], true);
    });
  }
}

function theme() {
  const button = byId("theme");
  const root = document.documentElement;
  const show = (name) => {
    root.dataset.theme = name;
    setText(button, `Theme: ${name}`);
  };
  show(root.dataset.theme);
  button.addEventListener("click", () => {
    const name = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
    show(name);
    store("theme", name);
    plots.recolor();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.recolor());
}

/** How much of the past the plots show, and how. */
function choices() {
  const spans = [...document.querySelectorAll("#window input")];
  const kept = stored("window", (value) => spans.some((input) => input.value === value), "900");
  for (const input of spans) {
    input.checked = input.value === kept;
    input.addEventListener("change", () => {
      plots.span = Number(input.value);
      store("window", input.value);
    });
  }
  plots.span = Number(kept);
  const log = byId("log");
  log.checked = stored("log", (value) => value === "true" || value === "false", "true") === "true";
  plots.log = log.checked;
  log.addEventListener("change", () => {
    plots.log = log.checked;
    store("log", String(log.checked));
  });
}
