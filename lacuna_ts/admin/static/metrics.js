// The caller's own series, as a table to search and as raw text; everybody's for those who may see them.
import { card, el, heading } from "./dom.js";
import { document_, text } from "./loading.js";
import { readSeries, total } from "./series.js";

const ROWS_SHOWN = 400;

export async function metrics({ signal }) {
  const me = await document_("api/whoami", signal);
  const mayAll = me.roles.includes("admin") || me.roles.includes("metrics");
  const body = el("div", { class: "stack" });
  const choose = async (path) => body.replaceChildren(...shown(await text(path, signal)));
  const chooseOrSay = (path) => choose(path).catch((problem) => {
    if (!signal.aborted) body.replaceChildren(card("These cannot be had just now", el("p", {}, problem.message)));
  });
  await choose("metrics/me");
  return [heading("Metrics", `Counted under ${me.label}, since the gateway started.`), mayAll && scope(chooseOrSay), body].filter(Boolean);
}

function scope(choose) {
  const buttons = [["Mine", "metrics/me"], ["Everybody", "metrics"]].map(([label, path]) => {
    const button = el("button", { type: "button", "aria-pressed": String(path === "metrics/me") }, label);
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      choose(path);
    });
    return button;
  });
  return el("div", { class: "segments", role: "group", "aria-label": "Whose metrics" }, buttons);
}

function shown(raw) {
  const series = readSeries(raw);
  if (series.length === 0) return [card("Nothing counted yet", el("p", {}, "Series appear here with the first request."))];
  return [summary(series), table(series), card("As text", el("details", {}, el("summary", {}, "Show the exposition format"),
    el("pre", { tabindex: "0" }, raw)))];
}

function summary(series) {
  const tokens = (kind) => total(series, "lacuna_usage_tokens_total", (labels) => labels.kind === kind);
  const figures = [
    ["Requests", total(series, "lacuna_requests_total")],
    ["Input tokens", tokens("input")],
    ["Output tokens", tokens("output")],
    ["Read from cache", tokens("cache_read")],
  ];
  return el("dl", { class: "figures" }, figures.map(([label, value]) =>
    el("div", {}, el("dt", {}, label), el("dd", { title: value.toLocaleString("en") }, compact(value)))));
}

const compact = (value) => new Intl.NumberFormat("en", { notation: value >= 1e5 ? "compact" : "standard", maximumFractionDigits: 1 }).format(value);
const written = (value) => (Number.isInteger(value) ? value.toLocaleString("en") : Number.isFinite(value) ? value.toPrecision(4) : String(value));

function table(series) {
  // Buckets are for machines: as rows they would bury everything else. They are in the text below.
  const rows = series.filter(({ name }) => !name.endsWith("_bucket"));
  const body = el("tbody");
  const count = el("p", { class: "muted small", role: "status" });
  const search = el("input", { type: "search", id: "find", placeholder: "model, provider, metric\u2026", autocomplete: "off", spellcheck: "false" });
  const fill = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = rows.filter(({ haystack }) => words.every((word) => haystack.includes(word)));
    body.replaceChildren(...found.slice(0, ROWS_SHOWN).map(row));
    count.textContent = found.length > ROWS_SHOWN ? `${found.length} series, the first ${ROWS_SHOWN} shown` : `${found.length} series`;
  };
  search.addEventListener("input", fill);
  fill();
  return card(null, el("div", { class: "split" }, el("label", { for: "find" }, "Find a series"), search), count,
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Series" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Series"), el("th", { scope: "col" }, "Labels"),
        el("th", { scope: "col", class: "number" }, "Value"))), body)));
}

function row({ name, labels, value }) {
  return el("tr", {}, el("td", {}, el("code", {}, name)),
    el("td", {}, Object.entries(labels).map(([key, text_]) => el("span", { class: "label" }, el("i", {}, key), text_ || "\u2013"))),
    el("td", { class: "number" }, written(value)));
}
