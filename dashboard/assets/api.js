// Requests to the server that the page came from.

const TIMEOUT_MILLIS = 10_000;
// Beside the page, wherever that is mounted.
const BASE = new URL("../api/v1/", import.meta.url);

/** Only in memory: it goes when the page does, and no other page of this origin finds it in a store. */
let token = null;

/** Why a request gave nothing. */
export class ApiError extends Error {
  /** `status` is 0 where there was no answer. */
  constructor(message, status = 0, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Whether the server is not there, or not able to answer: trying again may help. */
  get isOutage() {
    return this.status === 0 || this.status >= 500;
  }
}

/** The token that all further requests carry; null for none. */
export function setToken(value) {
  token = value;
}

/** Whether requests carry a token. */
export const hasToken = () => token !== null;

/** Asks for JSON. A request that `signal` ends throws an `AbortError`. */
export function get(path, parameters = {}, { signal, bearer = token } = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return request(url, { method: "GET" }, signal, bearer);
}

/** Sends JSON. */
export function post(path, body) {
  const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return request(new URL(path, BASE), init, undefined, token);
}

async function request(url, init, signal, bearer) {
  const deadline = AbortSignal.timeout(TIMEOUT_MILLIS);
  const headers = { ...init.headers };
  if (bearer !== null) headers.Authorization = `Bearer ${bearer}`;
  let response;
  let text;
  try {
    response = await fetch(url, {
      ...init,
      headers,
      cache: "no-store",
      redirect: "error",
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
    text = await response.text();
  } catch {
    if (signal?.aborted) throw new DOMException("superseded", "AbortError");
    throw new ApiError(deadline.aborted ? "nothing within 10 s" : "no connection");
  }
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Judged below: an error may well come from something in between that does not speak JSON.
  }
  if (!response.ok) {
    const error = body?.error;
    throw new ApiError(error?.message ?? `status ${response.status}`, response.status, error?.code ?? null);
  }
  if (body === null || typeof body !== "object") throw new ApiError("the answer is not JSON");
  return body;
}
