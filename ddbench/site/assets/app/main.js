// Which page is shown: the address after “#/” names it.

const view = document.getElementById("view");
const results = document.getElementById("results");
const PLOTS = { table: "Table", ipc: "Over IPC", cost: "Over cost" };
let shape = "table";
let cost = "seconds";
let table;
let filters;

function buildResults() {
  filters = new Filters(() => {
    history.replaceState(null, "", resultsAddress());
    update();
  });
  const shapes = Object.entries(PLOTS).map(([name, title]) =>
    el("button", { type: "button", id: `shape-${name}`, onclick: () => setShape(name) }, title),
  );
  const costs = el(
    "select",
    { id: "cost", onchange: (event) => ((cost = event.target.value), history.replaceState(null, "", resultsAddress()), update()) },
    Object.entries(COSTS).map(([name, { title }]) => el("option", { value: name }, title)),
  );
  const tableHolder = el("div", { id: "table-holder" });
  append(results, [
    el("div", { class: "intro" }, el("h1", { tabindex: "-1" }, "All results"), el("p", { class: "lead" }, summaryText())),
    filters.element,
    el(
      "div",
      { class: "shapes" },
      el("div", { class: "segments", role: "group", "aria-label": "Show as" }, shapes),
      el("div", { class: "field inline", id: "cost-field", hidden: true }, el("label", { for: "cost" }, "Cost"), costs),
      el("p", { id: "count", class: "sub" }),
    ),
    tableHolder,
    el("div", { id: "plot-holder" }),
  ]);
  table = new ResultTable(tableHolder, () => history.replaceState(null, "", resultsAddress()));
}

function summaryText() {
  const datasets = new Set(ROWS.map((row) => row.dataset)).size;
  const methods = new Set(ROWS.map((row) => row.method)).size;
  const measured = ROWS.length ? `${count(ROWS.length, "measured result")} of ${count(methods, "method")} on ${count(datasets, "data set")}` : "No measured results yet";
  return CLAIMS.length ? `${measured}, beside ${count(CLAIMS.length, "published claim")}.` : `${measured}.`;
}

function resultsAddress() {
  const params = filters.write();
  if (shape !== "table") params.set("show", shape);
  if (cost !== "seconds") params.set("cost", cost);
  if (table.order) params.set("sort", table.order);
  const text = params.toString();
  return text ? `#/results?${text}` : "#/results";
}

function setShape(name) {
  shape = name;
  history.replaceState(null, "", resultsAddress());
  update();
}

function update() {
  const keep = filters.test();
  for (const name of Object.keys(PLOTS)) document.getElementById(`shape-${name}`).setAttribute("aria-pressed", String(name === shape));
  document.getElementById("cost-field").hidden = shape !== "cost";
  document.getElementById("cost").value = cost;
  document.getElementById("table-holder").hidden = shape !== "table";
  const holder = document.getElementById("plot-holder");
  const fitting = EVERYTHING.filter(keep);
  document.getElementById("count").textContent = count(fitting.length, "result");
  announce(count(fitting.length, "result"));
  if (shape === "table") {
    holder.replaceChildren();
    table.filter(keep, filters.state.kind === "claimed");
  } else {
    holder.replaceChildren(plotPage(fitting, shape === "ipc" ? overBudget : overCost(cost)));
  }
}

const PAGES = {
  boards: (name) => ["boards", boardsView(name)],
  gallery: (name, params) => ["gallery", galleryView(params)],
  methods: () => ["methods", methodsView()],
  method: (name) => ["methods", methodView(name)],
  record: (key) => ["results", recordView(key)],
  source: (key) => ["results", sourceView(key)],
  about: () => ["about", aboutView()],
  submit: () => ["about", submitView()],
};

function route(first) {
  const address = location.hash.startsWith("#/") ? location.hash.slice(2) : "";
  const [path, query] = address.split("?", 2);
  const [name, argument] = path.split("/").map(safeDecode);
  const params = new URLSearchParams(query || "");
  let page = "results";
  if (name !== "results") {
    const [owner, content] = Object.hasOwn(PAGES, name) ? PAGES[name](argument, params) : ["compare", compareView(params)];
    page = owner;
    results.hidden = true;
    view.replaceChildren(content);
  } else {
    view.replaceChildren();
    results.hidden = false;
    if (!table) buildResults();
    shape = Object.hasOwn(PLOTS, params.get("show")) ? params.get("show") : "table";
    cost = Object.hasOwn(COSTS, params.get("cost")) ? params.get("cost") : "seconds";
    filters.read(params);
    table.sort(params.get("sort") || "");
    update();
  }
  for (const anchor of document.querySelectorAll("nav [data-page]")) {
    if (anchor.dataset.page === page) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  const heading = document.querySelector(results.hidden ? "#view h1" : "#results h1");
  document.title = results.hidden ? `${heading.textContent} – ddbench` : "ddbench: dataset distillation, compared";
  if (!first) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function safeDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const THEMES = ["auto", "light", "dark"];
const themeButton = document.getElementById("theme");

function remembered() {
  try {
    return localStorage.getItem("ddbench-theme") || "auto"; // some browsers deny it to files
  } catch {
    return "auto";
  }
}

function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  themeButton.textContent = `Theme: ${name}`;
  themeButton.dataset.now = name;
  try {
    localStorage.setItem("ddbench-theme", name);
  } catch {
    // The choice then lasts for this visit.
  }
}

themeButton.addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(themeButton.dataset.now) + 1) % THEMES.length]));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after # belongs to the pages
  document.getElementById("content").focus();
});
addEventListener("hashchange", () => route(false));
setTheme(remembered());
route(true);
performance.mark("ddbench-ready");
document.documentElement.dataset.ready = "true";
