// The plots. Each is drawn in a frame of its own, and only while it can be seen: no task becomes long.

import { element, setText } from "./dom.js";
import { byteRate, bytes, clock, exact, micros, rate } from "./format.js";

/* uPlot is a global of uplot.js, which runs before the modules. */

const AXIS_WIDTH = 62;
const HEIGHT = 168;
// Below this, a logarithmic axis says nothing of interest, and zero has no place on it.
const LEAST_MICROS = 0.1;
const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** What there is to plot; `dash` tells lines apart where colours do not. */
const PLOTS = [
  {
    id: "messages", title: "Messages per second", format: rate, least: 10,
    series: [{ key: "messages_received", label: "in", color: 1, fill: true }, { key: "messages_sent", label: "out", color: 2, dash: [5, 3] }],
  },
  {
    id: "bytes", title: "Bytes per second", format: byteRate, least: 1024, binary: true,
    series: [{ key: "bytes_received", label: "in", color: 1, fill: true }, { key: "bytes_sent", label: "out", color: 2, dash: [5, 3] }],
  },
  {
    id: "latency", title: "Latency", format: micros, least: 100, log: true,
    series: [
      { key: "handler_p50_us", label: "handler p50", color: 3 },
      { key: "handler_p95_us", label: "handler p95", color: 1 },
      { key: "handler_p99_us", label: "handler p99", color: 4 },
      { key: "ping_p50_us", label: "ping p50", color: 5, dash: [2, 3], optional: true },
      { key: "ping_p99_us", label: "ping p99", color: 5, optional: true },
      { key: "request_p50_us", label: "request p50", color: 2, dash: [2, 3], optional: true },
      { key: "request_p99_us", label: "request p99", color: 2, optional: true },
    ],
  },
  {
    id: "connections", title: "Connections", format: exact, least: 10,
    series: [{ key: "connections", label: "now", color: 3, fill: true }, { key: "suspended", label: "suspended", color: 4, dash: [5, 3], optional: true }],
  },
  {
    id: "queues", title: "Queues and buffers", format: bytes, least: 1024, binary: true,
    series: [{ key: "queued_bytes", label: "queued", color: 2, fill: true }, { key: "buffer_bytes", label: "buffers", color: 5, dash: [5, 3] }],
  },
  {
    id: "trouble", title: "Drops and errors per second", format: rate, least: 5,
    series: [
      { key: "errors", label: "errors", color: 4 },
      { key: "dropped", label: "dropped", color: 2, dash: [5, 3] },
      { key: "lost", label: "lost", color: 5, dash: [2, 3] },
      { key: "rate_limited", label: "rate limited", color: 1, optional: true },
      { key: "throttled", label: "waits for a rate", color: 1, dash: [2, 3], optional: true },
      { key: "shed", label: "sessions shed", color: 3, optional: true },
      { key: "expired", label: "sessions expired", color: 3, dash: [5, 3], optional: true },
      { key: "unacknowledged", label: "unacknowledged", color: 5, optional: true },
    ],
  },
];

export class Plots {
  #history;
  #plots = [];
  #waiting = new Set();
  #frame = 0;
  #span = 900;
  #log = true;

  constructor(place, history) {
    this.#history = history;
    const seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const plot = this.#plots.find((one) => one.canvas === target);
        plot.visible = isIntersecting;
        if (isIntersecting && plot.stale) this.#later(plot);
      }
    }, { rootMargin: "100px" });
    const sized = new ResizeObserver((entries) => {
      for (const { target } of entries) this.#later(this.#plots.find((one) => one.canvas === target));
    });
    for (const definition of PLOTS) {
      const plot = card(definition, this);
      place.append(plot.card);
      this.#plots.push(plot);
      seen.observe(plot.canvas);
      sized.observe(plot.canvas);
    }
  }

  /** There are new samples. */
  update() {
    for (const plot of this.#plots) {
      plot.stale = true;
      if (plot.visible) this.#later(plot);
    }
  }

  /** How many seconds are shown. */
  set span(seconds) {
    this.#span = seconds;
    this.update();
  }

  /** Whether the latency's axis is logarithmic. */
  set log(log) {
    this.#log = log;
    this.#remake((plot) => plot.definition.log);
  }

  /** Colours have changed. */
  recolor() {
    this.#remake(() => true);
  }

  #remake(which) {
    for (const plot of this.#plots) {
      if (!which(plot)) continue;
      plot.chart?.destroy();
      plot.chart = null;
      plot.stale = true;
      if (plot.visible) this.#later(plot);
    }
  }

  #later(plot) {
    this.#waiting.add(plot);
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#drawOne());
  }

  #drawOne() {
    this.#frame = 0;
    const [plot] = this.#waiting;
    if (!plot) return;
    this.#waiting.delete(plot);
    this.#draw(plot);
    if (this.#waiting.size > 0) this.#frame = requestAnimationFrame(() => this.#drawOne());
  }

  #draw(plot) {
    const width = plot.canvas.clientWidth;
    if (width === 0) return;
    const data = this.#data(plot.definition);
    plot.chart ??= this.#chart(plot, width);
    const { chart } = plot;
    if (chart.width !== width) chart.setSize({ width, height: HEIGHT });
    plot.definition.series.forEach((series, i) => {
      if (!series.optional || !plot.items[i].hidden) return;
      if (this.#history.column(series.key).some((value) => value > 0)) {
        plot.items[i].hidden = false;
        plot.items[i].setAttribute("aria-pressed", "true");
        chart.setSeries(i + 1, { show: true });
      }
    });
    chart.setData(data);
    plot.stale = false;
    showValues(plot);
  }

  #data(definition) {
    const clamp = definition.log && this.#log;
    const columns = definition.series.map(({ key }) => {
      const column = this.#history.column(key);
      return clamp ? column.map((value) => (value === null ? null : Math.max(value, LEAST_MICROS))) : column;
    });
    return [this.#history.time, ...columns];
  }

  #chart(plot, width) {
    const { definition } = plot;
    const colors = palette(plot.card);
    const log = definition.log && this.#log;
    const line = { stroke: colors.grid, width: 1 };
    return new uPlot({
      width,
      height: HEIGHT,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "dashboard" }, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => this.#range() },
        y: log ? { distr: 3, range: logRange(definition.least) } : { range: range(definition.least) },
      },
      axes: [
        { font: FONT, stroke: colors.text, grid: line, ticks: { ...line, size: 4 }, size: 26, gap: 4, space: 60, values: times },
        {
          font: FONT, stroke: colors.text, grid: line, ticks: { show: false }, size: AXIS_WIDTH, gap: 6, space: 28,
          incrs: definition.binary ? BINARY_STEPS : undefined,
          values: (chart, splits) => splits.map((value) => (value === null ? "" : definition.format(value).replace("/s", "").replace(/\.0+(?= )/, "").replace(/(\.\d)0(?= )/, "$1"))),
        },
      ],
      series: [
        {},
        ...definition.series.map(({ label, color, dash, fill }, i) => ({
          label,
          show: !plot.items[i].hidden && plot.items[i].getAttribute("aria-pressed") === "true",
          stroke: colors.series[color],
          fill: fill ? colors.fill[color] : undefined,
          width: 1.5,
          dash,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [() => showValues(plot)] },
    }, this.#data(definition), plot.canvas);
  }

  #range() {
    const last = this.#history.time.at(-1) ?? Date.now() / 1000;
    return [last - this.#span, last];
  }
}

/** Steps of an axis of bytes: powers of two read as round numbers. */
const BINARY_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);

function range(least) {
  return (chart, low, high) => [0, Math.max(least, (high ?? 0) * 1.08)];
}

function logRange(least) {
  return (chart, low, high) => {
    if (low === null || high === null) return [1, least];
    const from = 10 ** Math.floor(Math.log10(low));
    return [from, Math.max(from * 10, 10 ** Math.ceil(Math.log10(high)))];
  };
}

/** Local time, 24 hours; seconds only where ticks are closer than a minute. */
function times(chart, splits, axis, space, step) {
  return splits.map((seconds) => clock(seconds * 1000, step < 60));
}

function palette(place) {
  const style = getComputedStyle(place);
  const probe = element("span");
  place.append(probe);
  // `light-dark()` is resolved by a property that is a colour, not by one that is only text.
  const color = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const colors = {
    text: color("--muted"),
    grid: color("--grid"),
    series: [0, 1, 2, 3, 4, 5].map((i) => (i === 0 ? style.color : color(`--series-${i}`))),
    fill: [0, 1, 2, 3, 4, 5].map((i) => (i === 0 ? undefined : color(`--fill-${i}`))),
  };
  probe.remove();
  return colors;
}

/** The card of a plot: heading, legend whose items switch lines on and off, and the place of the canvas. */
function card(definition, plots) {
  const title = element("h3", { id: `plot-${definition.id}`, textContent: definition.title });
  const time = element("span", { className: "note time" });
  const plot = { definition, chart: null, visible: false, stale: true, items: [], values: [], time };
  definition.series.forEach(({ label, color, dash, optional }, i) => {
    const value = element("span", { className: "number", textContent: "–" });
    const item = element("button", { type: "button", className: "key", hidden: optional === true, "aria-pressed": optional ? "false" : "true" },
      element("span", { className: dash ? `swatch dashed color-${color}` : `swatch color-${color}`, "aria-hidden": "true" }), `${label} `, value);
    item.addEventListener("click", () => {
      const show = item.getAttribute("aria-pressed") !== "true";
      item.setAttribute("aria-pressed", String(show));
      plot.chart?.setSeries(i + 1, { show });
    });
    plot.items.push(item);
    plot.values.push(value);
  });
  plot.canvas = element("div", { className: "canvas", tabIndex: 0, role: "slider", "aria-labelledby": title.id, "aria-orientation": "horizontal",
    "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0", "aria-valuetext": "now" });
  plot.canvas.addEventListener("keydown", (event) => moveCursor(plot, event));
  plot.canvas.addEventListener("blur", () => plot.chart?.setCursor({ left: -10, top: -10 }));
  plot.card = element("figure", { className: "card plot" }, element("figcaption", {}, title, time), element("div", { className: "legend", id: `plot-${definition.id}-legend` }, ...plot.items), plot.canvas);
  return plot;
}

/** Arrow keys look at the past as the mouse does. */
function moveCursor(plot, event) {
  const { chart } = plot;
  if (!chart) return;
  const [times] = chart.data;
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -60, PageDown: 60, Home: -Infinity, End: Infinity };
  const step = steps[event.key];
  if (step === undefined || times.length === 0) return;
  event.preventDefault();
  const least = times.findIndex((time) => time >= chart.scales.x.min);
  const at = Math.min(times.length - 1, Math.max(least, (chart.cursor.idx ?? times.length - 1) + step));
  chart.setCursor({ left: chart.valToPos(times[at], "x"), top: 10 });
  plot.canvas.setAttribute("aria-valuemax", String(times.length - 1));
  plot.canvas.setAttribute("aria-valuenow", String(at));
  plot.canvas.setAttribute("aria-valuetext", `${clock(times[at] * 1000)}: ${plot.items.filter((item) => !item.hidden).map((item) => item.textContent).join(", ")}`);
}

/** The legend shows what is under the cursor, or what was last. */
function showValues(plot) {
  const { chart, definition } = plot;
  if (!chart) return;
  const [times, ...columns] = chart.data;
  const at = chart.cursor.idx ?? null;
  const index = at ?? times.length - 1;
  setText(plot.time, at === null ? "" : clock(times[at] * 1000));
  columns.forEach((column, i) => setText(plot.values[i], definition.format(column[index] ?? null)));
}
