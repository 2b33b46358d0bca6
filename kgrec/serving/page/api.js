// Requests to the server. Addresses are relative, so the page also works below a prefix of a proxy.

const TOKEN = "kgrec-token";
let token = stored();
let asking = null;
let ask = async () => null;

/** A refusal of the server in its own words. */
export class Fault extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Sets what asks the user for a token: a function of the server's words that returns a text or null. */
export function onMissingToken(asks) {
  ask = asks;
}

function stored() {
  try {
    return sessionStorage.getItem(TOKEN);
  } catch {
    return null;
  }
}

function keep(value) {
  token = value;
  try {
    sessionStorage.setItem(TOKEN, value);
  } catch {
    // storage is forbidden: the token is kept in memory alone
  }
}

/**
 * The answer of a path.
 * @param {string} path without a slash at its start
 * @param {{body?: object, query?: object, signal?: AbortSignal}} options a body makes it a POST
 */
export async function call(path, { body, query, signal } = {}) {
  const address = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query ?? {})) address.searchParams.set(name, value);
  for (;;) {
    const sent = token;
    const headers = { Accept: "application/json" };
    if (body) headers["Content-Type"] = "application/json";
    if (sent) headers.Authorization = `Bearer ${sent}`;
    const response = await reach(address, {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store",
    });
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) return answer;
    const words = answer?.error ?? `The server answered ${response.status} ${response.statusText}`.trim();
    if (response.status !== 401) throw new Fault(words, response.status);
    if (sent === token) {
      asking ??= ask(words).finally(() => (asking = null));
      const given = await asking;
      if (!given) throw new Fault(words, 401);
      keep(given);
    }
  }
}

async function reach(address, request) {
  try {
    return await fetch(address, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The server cannot be reached. Is it still running?", 0);
  }
}

const kept = new Map();

/** As call, for facts that do not change: asked once. */
export function fact(path, query) {
  const key = JSON.stringify([path, query]);
  if (!kept.has(key)) {
    const answer = call(path, { query });
    answer.catch(() => kept.delete(key));
    kept.set(key, answer);
  }
  return kept.get(key);
}

/** A path below a folder, such as items/50: slashes of the id stay, all else is encoded. */
export const below = (folder, id) => `${folder}/${id.split("/").map(encodeURIComponent).join("/")}`;

/**
 * Runs one piece of work at a time; a call meanwhile makes it run once more. So the newest request
 * wins, and while a slider moves, answers keep coming.
 * @param {(signal: AbortSignal) => Promise<void>} work reads what it needs when it starts
 * @returns a function; with true it also aborts the work that is running
 */
export function latest(work) {
  let running = null;
  let again = false;
  return async (abort = false) => {
    if (running) {
      again = true;
      if (abort) running.abort();
      return;
    }
    try {
      do {
        again = false;
        running = new AbortController();
        try {
          await work(running.signal, () => again);
        } catch (error) {
          if (error.name !== "AbortError") throw error;
        }
      } while (again);
    } finally {
      running = null;
    }
  };
}

/** Waits, unless the signal aborts. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });
}
