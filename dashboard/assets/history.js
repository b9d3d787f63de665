// The last 15 minutes, as the server tells them.

/** Samples that are kept, one a second. */
export const KEPT = 900;

export class History {
  /** The sample to ask for next. */
  next = 0;
  /** Seconds since 1970, ascending. */
  time = [];
  /** By name, as in the API; null where there was nothing. */
  columns = new Map();

  /** Adds an answer of `/history`; whether there was anything new. */
  add(answer) {
    if (answer.next < this.next) {
      // Another server, or the same one anew: what it did before is asked for again.
      this.next = 0;
      return false;
    }
    const { at } = answer.columns;
    // An answer that begins before what was asked for repeats.
    const skip = Math.max(0, this.next - answer.first);
    const fresh = at.length - skip;
    this.next = answer.next;
    if (fresh <= 0) return false;
    this.#breakAt(at[skip] / 1000, answer.interval_seconds ?? 1);
    for (let i = skip; i < at.length; i += 1) this.time.push(at[i] / 1000);
    for (const [name, values] of Object.entries(answer.columns)) {
      if (name === "at") continue;
      const column = this.#column(name, this.time.length - fresh);
      for (let i = skip; i < values.length; i += 1) column.push(values[i]);
    }
    this.#fill();
    return true;
  }

  /** The values of a column; none of a column that the server does not have. */
  column(name) {
    return this.columns.get(name) ?? this.#column(name, this.time.length);
  }

  /** The last value of a column, null if there is none. */
  last(name) {
    return this.column(name).at(-1) ?? null;
  }

  /** The last value that is one, if it is at most `seconds` old. */
  lastOf(name, seconds) {
    const column = this.column(name);
    for (let i = column.length - 1; i >= 0 && i >= column.length - seconds; i -= 1) {
      if (column[i] !== null) return column[i];
    }
    return null;
  }

  /** The sum of a column. */
  sum(name) {
    let sum = 0;
    for (const value of this.column(name)) sum += value ?? 0;
    return sum;
  }

  #column(name, length) {
    let column = this.columns.get(name);
    if (!column) {
      column = new Array(length).fill(null);
      this.columns.set(name, column);
    }
    return column;
  }

  /** No line is drawn over a time of which nothing is known, and time never goes back. */
  #breakAt(at, interval) {
    while (this.time.length > 0 && this.time.at(-1) >= at) {
      this.time.pop();
      for (const column of this.columns.values()) column.pop();
    }
    const last = this.time.at(-1);
    if (last !== undefined && at - last > 2.5 * interval) {
      this.time.push(last + interval);
      for (const column of this.columns.values()) column.push(null);
    }
  }

  /** Every column is as long as the time, and none longer than is kept. */
  #fill() {
    const excess = this.time.length - KEPT;
    if (excess > 0) this.time.splice(0, excess);
    for (const column of this.columns.values()) {
      while (column.length < this.time.length + Math.max(0, excess)) column.push(null);
      if (excess > 0) column.splice(0, excess);
    }
  }
}
