// Calling the service: relative addresses, the key, and errors that can be shown.

const KEY = "selfreward.key";
const REVIEWER = "selfreward.reviewer";

/** Fires "change" when the key or the name changes, and "wanted" when the service asks for a key. */
export const access = new EventTarget();

export function readAccess() {
  return { key: sessionStorage.getItem(KEY) ?? "", reviewer: sessionStorage.getItem(REVIEWER) ?? "" };
}

export function writeAccess({ key, reviewer }) {
  sessionStorage.setItem(KEY, key);
  sessionStorage.setItem(REVIEWER, reviewer);
  access.dispatchEvent(new Event("change"));
}

/** A request that was not answered as hoped. `status` is 0 where nothing answered at all. */
export class ApiError extends Error {
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status;
    /** Seconds to wait, as the service asks for them, or null. */
    this.retryAfter = retryAfter;
  }
}

/** Headers carry plain ASCII only; other names travel percent-encoded. */
function headerText(name) {
  return /^[ -~]*$/.test(name) && !name.includes("%") ? name : encodeURIComponent(name);
}

function headers(hasBody) {
  const { key, reviewer } = readAccess();
  const all = { Accept: "application/json" };
  if (hasBody) all["Content-Type"] = "application/json";
  if (key) all.Authorization = `Bearer ${key}`;
  else if (reviewer) all["X-Reviewer"] = headerText(reviewer);
  return all;
}

/** Retry-After is a number of seconds or a date. */
function secondsToWait(response) {
  const value = response.headers.get("Retry-After");
  if (value === null) return null;
  const seconds = /^\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

async function errorOf(response) {
  const text = await response.text();
  let message = `The service answered ${response.status} ${response.statusText}`.trim();
  try {
    message = JSON.parse(text).error.message ?? message;
  } catch {
    // Not the service's own error, e.g. a proxy's page: the status says what there is to say.
  }
  return new ApiError(message, response.status, secondsToWait(response));
}

/** The parsed answer, or null for 204. Throws ApiError, or AbortError where `signal` was used. */
export async function request(path, { body = null, signal = null } = {}) {
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method: body === null ? "GET" : "POST",
      headers: headers(body !== null),
      body: body === null ? null : JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The service cannot be reached. Is it running?", 0);
  }
  if (!response.ok) {
    const error = await errorOf(response);
    if (error.status === 401) access.dispatchEvent(new Event("wanted"));
    throw error;
  }
  return response.status === 204 ? null : response.json();
}
