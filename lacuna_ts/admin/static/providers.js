// The providers that the caller may use: the list, and one of them with everything needed to point a client at it.
import { card, chips, copyable, el, facts, heading } from "./dom.js";
import { document_, gateway } from "./loading.js";
import { settingsFor } from "./settings.js";

const NAMES = {
  openai_chat: "OpenAI chat",
  openai_completions: "OpenAI completions",
  openai_responses: "OpenAI responses",
  openai_embeddings: "OpenAI embeddings",
  openai_images: "OpenAI images",
  openai_audio: "OpenAI audio",
  openai_moderations: "OpenAI moderations",
  rerank: "Rankings",
  anthropic_messages: "Anthropic messages",
  gemini_generate_content: "Gemini",
  google_generate_content: "Vertex Gemini",
  google_raw_predict: "Vertex raw predict",
  bedrock_model_invoke: "Bedrock invoke",
  bedrock_converse: "Bedrock converse",
  ollama_chat: "Ollama chat",
};
const MODELS_SHOWN = 60;

const enabled = (flags) => Object.keys(flags).filter((flag) => flags[flag]);
const dialectChips = (flags) => chips(enabled(flags).map((flag) => NAMES[flag] ?? flag), "dialects");
const counted = (models) => (models.length === 1 ? "1 named model" : `${models.length} named models`);

export async function providers({ signal }) {
  const list = await document_("api/providers", signal);
  if (list.length === 0) return [heading("Providers"), nothing()];
  return [
    heading("Providers", "What you may use. No key is needed: the tailnet vouches for you."),
    card(null,
      el("div", { class: "split" },
        el("div", {}, el("h2", {}, "One address for all of them"),
          el("p", { class: "muted" }, "The gateway picks a provider by the model that is asked for.")),
        copyable(gateway, { inline: true, caption: "the gateway's address" }))),
    el("ul", { class: "tiles" }, list.map(tile)),
  ];
}

function tile(provider) {
  return el("li", {}, el("a", { href: `#/provider/${encodeURIComponent(provider.id)}`, class: "tile" },
    el("span", { class: "tile-head" }, el("b", {}, provider.name || provider.id), el("code", {}, `/${provider.id}`)),
    provider.description && el("span", { class: "muted" }, provider.description),
    dialectChips(provider.compatibility),
    el("span", { class: "muted small" }, provider.models.length ? counted(provider.models) : "models by pattern")));
}

function nothing() {
  return card("No provider is granted to you yet", el("p", {}, "The page ", el("a", { href: "#/you" }, "You"),
    " says who the tailnet takes you for, and what to ask for."));
}

export async function provider({ signal, parameters: [id] }) {
  const [list, config] = await Promise.all([document_("api/providers", signal), document_("api/config", signal)]);
  const found = list.find((entry) => entry.id === id);
  if (!found) {
    return [heading("Provider not found."), card(null, el("p", {}, "There is none of this name that you may use. ",
      el("a", { href: "#/" }, "All providers")))];
  }
  document.title = `${found.name || id} \u00b7 lacuna`;
  const base = `${gateway}/${id}`;
  const settings = settingsFor(base, enabled(found.compatibility), found.models);
  return [
    el("p", { class: "crumb" }, el("a", { href: "#/" }, "All providers")),
    heading(found.name || id, found.description),
    card(null, facts([
      ["Base path", copyable(`/${id}`, { inline: true, caption: "the base path" })],
      ["Address for clients", copyable(base, { inline: true, caption: "the address for clients" })],
      ["Upstream", config[id] && el("code", {}, config[id].baseurl)],
      ["Dialects", dialectChips(found.compatibility)],
    ])),
    card("Models", modelList(found.models)),
    settings.length > 0 && el("h2", { class: "between" }, "Client settings"),
    settings.map(({ name, note, text }) => el("section", { class: "card snippet" }, el("h3", {}, name),
      note && el("p", { class: "muted" }, note), copyable(text, { caption: `the settings for ${name}` }))),
  ].filter(Boolean);
}

function modelList(models) {
  if (models.length === 0) {
    return el("p", { class: "muted" }, "None is named one by one. The page ", el("a", { href: "#/you" }, "You"), " shows which names are allowed.");
  }
  const rest = models.slice(MODELS_SHOWN);
  return [
    chips(models.slice(0, MODELS_SHOWN), "models"),
    rest.length > 0 && el("details", {}, el("summary", {}, `${rest.length} more`), chips(rest, "models")),
  ];
}
