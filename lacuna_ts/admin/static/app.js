// The shell: which page is shown, and what stands there while it loads or when it cannot be had.
import { card, el, heading, say } from "./dom.js";
import { document_, Refused } from "./loading.js";
import { about, configuration } from "./documents.js";
import { metrics } from "./metrics.js";
import { provider, providers } from "./providers.js";
import { you } from "./you.js";

const PAGES = [
  { at: /^\/?$/, nav: "#/", title: "Providers", show: providers },
  { at: /^\/provider\/([^/]+)$/, nav: "#/", title: "Provider", show: provider },
  { at: /^\/you$/, nav: "#/you", title: "You", show: you },
  { at: /^\/metrics$/, nav: "#/metrics", title: "Metrics", show: metrics },
  { at: /^\/configuration$/, nav: "#/configuration", title: "Configuration", show: configuration },
  { at: /^\/about$/, nav: "#/about", title: "About", show: about },
];
const RETRY_S = 3;

const main = document.getElementById("main");
let leaving = new AbortController();
let isFirst = true;

function route() {
  const hash = location.hash.replace(/^#/, "");
  for (const page of PAGES) {
    const match = page.at.exec(hash);
    if (match) return void show(page, match.slice(1).map(decoded));
  }
  location.replace("#/");
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function show(page, parameters) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  mark(page);
  main.setAttribute("aria-busy", "true");
  // A fast answer shows no flicker: the waiting state appears only when there is something to wait for.
  const waiting = setTimeout(() => put(heading(page.title), el("p", { class: "waiting" }, "Loading\u2026")), 150);
  try {
    const content = await page.show({ signal, parameters });
    if (signal.aborted) return;
    put(content);
    greet();
  } catch (problem) {
    if (signal.aborted) return;
    put(heading(page.title), trouble(problem, () => show(page, parameters), signal));
  } finally {
    clearTimeout(waiting);
    if (!signal.aborted) {
      main.removeAttribute("aria-busy");
      if (!isFirst) main.querySelector("h1")?.focus({ preventScroll: true });
      isFirst = false;
    }
  }
}

function mark(page) {
  document.title = `${page.title} \u00b7 lacuna`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.getAttribute("href") === page.nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
}

function put(...content) {
  main.replaceChildren(...content.flat(Infinity));
}

/** What to show instead of a page: the gateway's own sentence, and what happens next. */
function trouble(problem, again, signal) {
  const retry = el("button", { type: "button", click: again }, "Try again");
  if (!(problem instanceof Refused)) {
    console.error(problem);
    return card("This page could not be shown", el("p", {}, "The answer was not what this page expects. Is the gateway newer than this tab?"), retry);
  }
  if (problem.status === 503 || problem.status === 0) {
    const wait = Math.max(problem.retryAfter ?? 0, RETRY_S);
    const timer = setTimeout(again, wait * 1000);
    signal.addEventListener("abort", () => clearTimeout(timer));
    const title = problem.code === "identity_unavailable" ? "Waiting for tailscaled" : "Waiting for the gateway";
    say(title);
    return el("section", { class: "card notice wait" }, el("h2", {}, title), el("p", {}, problem.message),
      el("p", { class: "muted" }, `This page tries again every ${Math.round(wait)} seconds.`), retry);
  }
  const title = problem.status === 403 ? "Not for you, as things are" : "The gateway said no";
  return el("section", { class: "card notice" }, el("h2", {}, title), el("p", {}, problem.message),
    problem.code && el("p", { class: "muted" }, "Code ", el("code", {}, problem.code), ` (${problem.status})`), retry);
}

async function greet() {
  const who = document.getElementById("who");
  if (!who.hidden) return;
  try {
    const me = await document_("api/whoami");
    who.replaceChildren(el("a", { href: "#/you" }, el("b", {}, me.is_tagged ? me.label : me.display_name || me.login),
      el("span", {}, me.node.name)));
    who.hidden = false;
  } catch {
    // The page itself says what is wrong; a second voice would repeat it.
  }
}

// The address's fragment names the page, so the skip link must not put its own there.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", route);
route();
