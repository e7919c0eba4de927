// Who the tailnet says is asking, and what follows from it, in plain words.
import { card, chips, copyable, el, facts, heading } from "./dom.js";
import { document_ } from "./loading.js";

const VIA = {
  direct: "directly over the tailnet",
  userspace: "through tailscaled in userspace mode",
  serve: "through tailscale serve",
};
const ROLES = {
  user: "user: may use models",
  admin: "admin: also sees everybody's metrics and complete upstream addresses",
  metrics: "metrics: may read everybody's metrics",
};

export async function you({ signal }) {
  const me = await document_("api/whoami", signal);
  return [
    heading("You", introduction(me)),
    standing(me),
    card("What you may use", me.providers.length ? me.providers.map(covered) : el("p", { class: "muted" }, "Nothing yet."),
      me.aliases.length > 0 && el("div", { class: "covered" }, el("h3", {}, "Names that the gateway resolves itself"),
        chips(me.aliases, "models"))),
    me.ask && ask(me.ask),
    me.grants.length > 0 && card("Your grants", el("ul", { class: "grants" }, me.grants.map(grant))),
    me.problems.length > 0 && problems(me.problems),
    card("Who the tailnet says you are", identity(me)),
  ].filter(Boolean);
}

function introduction(me) {
  if (me.is_tagged) return `The tailnet knows this machine by its tags: ${me.node.tags.join(", ")}.`;
  return `The tailnet says that you are ${me.display_name ? `${me.display_name} (${me.login})` : me.login}, on ${me.node.name}.`;
}

function standing(me) {
  if (me.blocked !== null) return notice("You are blocked here", me.blocked);
  if (me.unreadable !== null) return notice("A rule about you cannot be read, so nothing is allowed", me.unreadable);
  return null;
}

const notice = (title, text) => el("section", { class: "card notice" }, el("h2", {}, title), text && el("p", {}, text));

function covered(provider) {
  return el("div", { class: "covered" },
    el("h3", {}, el("a", { href: `#/provider/${encodeURIComponent(provider.id)}` }, provider.name || provider.id)),
    el("p", {}, provider.sentence),
    provider.models.length > 0 && chips(provider.models, "models"));
}

function ask({ sentence, grant }) {
  // Lists of one stay on one line: that is how policy files are written by hand.
  const text = JSON.stringify(grant, null, 2).replace(/\[\n\s+("(?:[^"\\]|\\.)*")\n\s+\]/g, "[$1]");
  return card("What to ask for", el("p", {}, sentence), copyable(text, { caption: "the grant" }));
}

function grant({ sentence, origin, covers }) {
  return el("li", {}, el("p", {}, sentence), el("p", { class: "muted small" }, `From ${origin}. `,
    covers.length ? `Covers here: ${covers.join(", ")}.` : "Covers no provider that exists here."));
}

function problems(list) {
  return el("section", { class: "card notice" }, el("h2", {}, "Entries that could not be read"),
    el("p", {}, "They give nothing until they are corrected in the tailnet policy or in the gateway's file."),
    el("ul", { class: "grants" }, list.map(({ capability, reason }) =>
      el("li", {}, el("code", {}, capability), el("p", {}, reason)))));
}

function identity(me) {
  const list = (values) => (values.length ? chips(values) : "");
  return facts([
    ["Login", me.login],
    ["Name", me.display_name],
    ["User id", String(me.user_id)],
    ["Node", me.node.name],
    ["Addresses", list(me.node.addresses)],
    ["Tags", list(me.node.tags)],
    ["Groups", list(me.groups)],
    ["Reached us", VIA[me.via] ?? me.via],
    ["Counted as", me.label],
    ["Roles", me.roles.length ? el("ul", { class: "plain" }, me.roles.map((role) => el("li", {}, ROLES[role] ?? role))) : ""],
    ["Labels", list(Object.entries(me.labels).map(([key, value]) => `${key}=${value}`))],
    ["Guest", me.is_shared_in ? "yes: this node belongs to another tailnet" : ""],
  ]);
}
