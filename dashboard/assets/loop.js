// When requests are made: each job at its interval, none while the page is hidden, one of a kind at a time, and after
// the server has gone one at a time, less and less often.

import { ApiError } from "./api.js";

const FIRST_RETRY_MILLIS = 500;
const LAST_RETRY_MILLIS = 5_000;

export class Loop {
  #jobs = new Map();
  #timer = 0;
  #failures = 0;
  #retryAt = 0;
  #locked = false;
  #handlers;

  /**
   * `lost(error, millisToNextTry)`, `found()`, `unauthorized()`: what happened to the connection; `failed(name, error)`
   * and `worked(name)`: what the server said to one job.
   * The first job that is added is the one that looks whether the server is back.
   */
  constructor(handlers) {
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", () => this.wake());
  }

  /** Adds a job: `run(signal)` every `interval` milliseconds while `wanted()`. */
  add(name, interval, run, wanted = () => true) {
    this.#jobs.set(name, { name, interval, run, wanted, due: 0, running: null });
  }

  /** Runs a job at once; one that runs already is dropped for it. */
  now(name) {
    const job = this.#jobs.get(name);
    job.running?.abort();
    job.running = null;
    job.due = 0;
    this.wake();
  }

  /** Tries again at once. */
  retry() {
    this.#retryAt = 0;
    this.wake();
  }

  /** Requests begin again, with another token or none. */
  unlock() {
    this.#locked = false;
    for (const job of this.#jobs.values()) {
      // Its answer would be about the rights before.
      job.running?.abort();
      job.running = null;
      job.due = 0;
    }
    this.wake();
  }

  get isLost() {
    return this.#failures > 0;
  }

  /** Starts what is due, and sets the clock to what is due next. */
  wake() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#locked) return;
    const now = performance.now();
    let next = Infinity;
    const jobs = this.isLost ? [this.#probe] : this.#jobs.values();
    for (const job of jobs) {
      if (job.running || !job.wanted()) continue;
      const due = this.isLost ? this.#retryAt : job.due;
      if (due > now) next = Math.min(next, due);
      else void this.#start(job);
    }
    if (next < Infinity) this.#timer = setTimeout(() => this.wake(), next - now);
  }

  /** The job that finds out whether the server is back. */
  get #probe() {
    return this.#jobs.values().next().value;
  }

  async #start(job) {
    const controller = new AbortController();
    job.running = controller;
    const began = performance.now();
    try {
      await job.run(controller.signal);
      if (job.running === controller) {
        this.#handlers.worked(job.name);
        this.#answered();
      }
    } catch (error) {
      if (job.running === controller) this.#failed(job, error);
    } finally {
      if (job.running === controller) {
        job.running = null;
        job.due = Math.max(began + job.interval, performance.now() + job.interval / 4);
        this.wake();
      }
    }
  }

  /** The server has said something, be it that it refuses. */
  #answered() {
    if (!this.isLost) return;
    this.#failures = 0;
    for (const job of this.#jobs.values()) job.due = 0;
    this.#handlers.found();
  }

  #failed(job, error) {
    if (error.name === "AbortError") return;
    if (error instanceof ApiError && !error.isOutage) this.#answered();
    if (error instanceof ApiError && error.status === 401) {
      this.#locked = true;
      this.#handlers.unauthorized();
    } else if (error instanceof ApiError && error.isOutage) {
      // Of several that fail together, the first counts.
      if (this.isLost && job !== this.#probe) return;
      const delay = Math.min(LAST_RETRY_MILLIS, FIRST_RETRY_MILLIS * 2 ** this.#failures);
      this.#failures += 1;
      this.#retryAt = performance.now() + delay;
      this.#handlers.lost(error, delay);
    } else {
      // Refused, or a mistake of the page's own: shown, and the other jobs go on.
      if (!(error instanceof ApiError)) console.error(error);
      this.#handlers.failed(job.name, error);
    }
  }
}
