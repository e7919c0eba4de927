// Getting documents from the gateway that served this page. All addresses are relative, so any prefix works.

/** An answer that was not 200. `message` is the gateway's own sentence. */
export class Refused extends Error {
  constructor(status, code, message, retryAfter) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** The gateway's address as its callers see it, prefix included, without a trailing slash. */
export const gateway = new URL("..", document.baseURI).href.replace(/\/$/, "");

/** Get a JSON document below the gateway's address. */
export async function document_(path, signal) {
  const response = await get(path, signal);
  return response.json();
}

/** Get a text below the gateway's address. */
export async function text(path, signal) {
  const response = await get(path, signal);
  return response.text();
}

async function get(path, signal) {
  let response;
  try {
    response = await fetch(new URL(`../${path}`, document.baseURI), { signal, cache: "no-store", redirect: "error" });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refused(0, "unreachable", "The gateway does not answer. It may be restarting, or the tailnet is down.");
  }
  if (response.ok) return response;
  const body = await response.text().catch(() => "");
  const wait = Number.parseFloat(response.headers.get("retry-after") ?? "");
  throw new Refused(
    response.status,
    response.headers.get("x-lacuna-error") ?? "",
    sentence(body) || `The gateway answered ${response.status}.`,
    Number.isFinite(wait) ? wait : null,
  );
}

/** The sentence in an error document, whichever dialect it is written in. */
function sentence(body) {
  try {
    const document = JSON.parse(body);
    const found = document?.error?.message ?? document?.message ?? document?.error;
    return typeof found === "string" ? found : "";
  } catch {
    return body.length < 500 && !body.includes("<") ? body.trim() : "";
  }
}
