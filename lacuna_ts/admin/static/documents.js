// The configuration and the about page: two documents, shown nearly as they are.
import { card, copyable, el, facts, heading } from "./dom.js";
import { document_ } from "./loading.js";

export async function configuration({ signal }) {
  const config = await document_("api/config", signal);
  const isEmpty = Object.keys(config).length === 0;
  return [
    heading("Configuration", "The providers that you may use, as the gateway has them configured."),
    isEmpty
      ? card(null, el("p", {}, "Nothing to show: no provider is granted to you. ", el("a", { href: "#/you" }, "What to ask for")))
      : copyable(JSON.stringify(config, null, 2), { label: "Copy the configuration" }),
  ];
}

export async function about({ signal }) {
  const info = await document_("api/info", signal);
  return [
    heading("About", "AI models for a tailnet, without handing out API keys."),
    card(null, facts([["Version", info.version], ["Commit", info.commit && el("code", {}, info.commit)]])),
    card("Documents", el("p", {}, "What these pages show is also there as JSON or text:"),
      el("ul", { class: "plain" }, ["api/whoami", "api/providers", "api/config", "api/info", "metrics/me"].map((path) =>
        el("li", {}, el("a", { href: `../${path}` }, `/${path}`))))),
    card("Licence", el("pre", { class: "prose", tabindex: "0" }, info.license)),
  ];
}
