// Numbers, times and texts as they are shown.

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const NONE = "–";

const absent = (value) => value === null || value === undefined || !Number.isFinite(value);

/** Three digits that matter: 1.23, 12.3, 123. */
function digits(value) {
  const size = Math.abs(value);
  if (size >= 99.95) return grouped.format(value);
  return value.toFixed(size >= 9.995 ? 1 : 2);
}

function scaled(value, step, units) {
  let unit = 0;
  let size = value;
  // At 999.5 three digits round up to 1000.
  while (Math.abs(size) >= step - 0.5 && unit < units.length - 1) {
    size /= step;
    unit += 1;
  }
  return [size, units[unit], unit];
}

/** A whole number, all digits. */
export const exact = (value) => (absent(value) ? NONE : grouped.format(value));

/** A count in little room: 999, 9,999, 12.3 k, 1.20 M. */
export function count(value) {
  if (absent(value)) return NONE;
  if (Math.abs(value) < 9999.5) return Number.isInteger(value) || Math.abs(value) >= 99.95 ? grouped.format(value) : trim(digits(value));
  const [size, unit] = scaled(value, 1000, ["", "k", "M", "G", "T", "P"]);
  return `${digits(size)} ${unit}`;
}

/** Without zeros behind the point. */
const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

/** Events in a second. */
export const rate = (value) => (absent(value) ? NONE : `${count(value)}/s`);

/** Bytes, in powers of 1024. */
export function bytes(value) {
  if (absent(value)) return NONE;
  const [size, unit, power] = scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
  return `${power === 0 ? grouped.format(size) : digits(size)} ${unit}`;
}

/** Bytes in a second. */
export const byteRate = (value) => (absent(value) ? NONE : `${bytes(value)}/s`);

/** Bytes, short and exact. */
export const bytesExact = (value) => (absent(value) ? NONE : value < 1024 ? `${grouped.format(value)} B` : `${bytes(value)} (${grouped.format(value)} B)`);

/** A short time, given in microseconds. */
export function micros(value) {
  if (absent(value)) return NONE;
  if (value < 999.5) return `${digits(value)} µs`;
  if (value < 999_500) return `${digits(value / 1000)} ms`;
  return `${digits(value / 1_000_000)} s`;
}

/** A longer time, given in seconds: 0.4 s, 12 s, 3m 20s, 2h 46m, 12d 4h. */
export function duration(seconds) {
  if (absent(seconds)) return NONE;
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h ${pad(Math.floor((whole % 3600) / 60))}m`;
  return `${grouped.format(Math.floor(whole / 86_400))}d ${Math.floor((whole % 86_400) / 3600)}h`;
}

const pad = (value) => String(value).padStart(2, "0");

/** The local time of day of a moment in milliseconds since 1970. */
export function clock(millis, withSeconds = true) {
  const date = new Date(millis);
  const text = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  return withSeconds ? `${text}:${pad(date.getSeconds())}` : text;
}

/** The local date and time of a moment in milliseconds since 1970. */
export function moment(millis) {
  const date = new Date(millis);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(millis)}`;
}

/** Controls, and characters that are invisible or change the direction of writing. */
const HARMFUL = /[\p{Cc}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb]/gu;

/** A text of a peer's choosing: at most `limit` characters, and what would deceive a reader is spelled out. */
export function foreign(text, limit = 64) {
  if (text === null || text === undefined) return NONE;
  let part = String(text);
  const clipped = part.length > limit;
  if (clipped) {
    part = part.slice(0, limit);
    // Not in the middle of a pair of surrogates.
    if (/[\ud800-\udbff]$/.test(part)) part = part.slice(0, -1);
  }
  const safe = part.replace(HARMFUL, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
  return clipped ? `${safe}…` : safe;
}

/** What a tooltip adds to a text that was clipped: more of it, and how long it is. */
export function foreignTitle(text, limit = 64) {
  if (text === null || text === undefined || String(text).length <= limit) return "";
  const all = String(text);
  return all.length <= 1024 ? foreign(all, 1024) : `${foreign(all, 1024)} (${grouped.format(all.length)} characters)`;
}
