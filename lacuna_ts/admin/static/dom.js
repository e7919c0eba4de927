// Making elements. Text enters a page here and only as text nodes: there is no way to pass markup through.

/** Make an element. `attributes` are set as attributes, except `onclick`-like functions, which become listeners. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, String(value));
  }
  append(element, children);
  return element;
}

/** Append nodes, text and nested lists of them; null and false are skipped. */
export function append(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Say something to people who listen instead of look. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** A page's heading, which takes the focus when the page appears. */
export function heading(title, lead) {
  return el("div", { class: "head" }, el("h1", { tabindex: "-1" }, title), lead && el("p", { class: "lead" }, lead));
}

export function card(title, ...children) {
  return el("section", { class: "card" }, title && el("h2", {}, title), children);
}

export function chips(names, kind = "") {
  return el("ul", { class: `chips ${kind}` }, names.map((name) => el("li", {}, name)));
}

/** A list of facts: [[term, value or node or list of them], ...]; facts without a value are left out. */
export function facts(rows) {
  const isThere = (value) => value !== null && value !== undefined && value !== "" && value?.length !== 0;
  return el("dl", { class: "facts" }, rows.filter(([, value]) => isThere(value)).map(([term, value]) =>
    el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

/** Text to take away, with a button that copies it. */
export function copyable(text, { label = "Copy", caption = "", inline = false } = {}) {
  const button = el("button", { type: "button", class: "copy", "aria-label": `${label} ${caption}`.trim() }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copy(text);
    button.textContent = done ? "Copied" : "Select and copy";
    say(done ? "Copied to the clipboard" : "Copying is not possible here");
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
  const code = inline ? el("code", {}, text) : el("pre", { tabindex: "0" }, el("code", {}, text));
  return el("div", { class: inline ? "copyable inline" : "copyable" }, code, button);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A tailnet address without TLS is no secure context, so the clipboard API is absent: the old way still works.
    const area = el("textarea", { class: "unseen", readonly: true, "aria-hidden": "true" });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}
