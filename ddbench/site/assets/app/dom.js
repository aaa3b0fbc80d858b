// Elements are made here and nowhere else; text is always text, never markup.

function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

function link(path, text, attributes) {
  return el("a", { href: `#/${path.map(encodeURIComponent).join("/")}`, ...attributes }, text);
}

// A list of (name, value) pairs as a two-column table.
function facts(caption, pairs, attributes) {
  const rows = pairs.map(([name, value]) =>
    el("tr", null, el("th", { scope: "row" }, name), el("td", null, value instanceof Node ? value : valueText(value))),
  );
  return el("table", { class: "facts", ...attributes }, el("caption", null, caption), el("tbody", null, rows));
}

function section(heading, ...content) {
  return el("section", { class: "block" }, el("h2", null, heading), content);
}

// A wide thing that scrolls inside its own frame, reachable by keyboard.
function scroller(label, content) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, content);
}

function announce(text) {
  document.getElementById("announce").textContent = text;
}
