// The first page: methods × protocols at one budget, and beside it one protocol’s accuracies with their intervals.

// Where methods compete: one data set, budget, protocol and network.
const SETTINGS = [...d3.group(ROWS, (row) => [row.dataset, row.fingerprint, row.ipc, row.network, row.protocol, row.digest].join("\n")).values()].map((rows) => ({
  ...Object.fromEntries(["dataset", "ipc", "network", "protocol", "published", "digest", "labels", "settings", "preset", "extension"].map((name) => [name, rows[0][name]])),
  id: [rows[0].protocol, rows[0].digest.slice(0, 8), rows[0].network].join("-"),
  rows,
}));

// What was published of a setting, by method; extensions of a protocol have no published numbers.
const PLACED = d3.group(CLAIMS.filter((claim) => claim.metric === "top1"), (claim) => [claim.dataset, claim.ipc, claim.protocol, claim.ourNetwork, claim.labels].join("\n"), (claim) => claim.method);
const claimsOf = (setting) => (setting.extension ? null : PLACED.get([setting.dataset, setting.ipc, setting.published, setting.network, setting.labels].join("\n"))) || new Map();
const WITNESSES = ["own", "own-quoted", "other", "baseline"];
const bestWitness = (claims) => d3.least(claims, (claim) => (WITNESSES.indexOf(claim.whose) + 9) % 9);

const most = (settings) => d3.greatest(settings, (setting) => setting.rows.length);
const fidelity = (preset) => preset.split("+")[1] || "";

let compared = {};

function readChoice(params) {
  const pick = (values, wanted, otherwise) => (values.includes(wanted) ? wanted : otherwise);
  const finite = SETTINGS.filter((setting) => setting.ipc !== null);
  const all = finite.length ? finite : SETTINGS;
  const datasets = d3.groupSort(all, (settings) => -d3.sum(settings, (setting) => setting.rows.length), (setting) => setting.dataset);
  const dataset = pick(datasets, params.get("dataset"), datasets[0]);
  const onData = all.filter((setting) => setting.dataset === dataset);
  const budgets = d3.sort(new Set(onData.map((setting) => setting.ipc)));
  const ipc = pick(budgets, Number(params.get("ipc")), most(onData).ipc);
  const here = onData.filter((setting) => setting.ipc === ipc);
  const protocols = d3.groupSort(here, (settings) => -most(settings).rows.length, (setting) => setting.published);
  const protocol = pick(protocols, params.get("protocol"), "");
  // Without a choice, every protocol with the network that most methods were measured with.
  const columns = protocol ? here.filter((setting) => setting.published === protocol) : protocols.map((name) => most(here.filter((setting) => setting.published === name)));
  columns.sort((a, b) => b.rows.length - a.rows.length || (a.network < b.network ? -1 : 1));
  const focus = columns.find((setting) => setting.id === params.get("at")) || columns[0];
  return { datasets, dataset, budgets, ipc, protocols, protocol, columns, focus, claims: params.get("claims") === "1" };
}

function choose(changes) {
  const { dataset, ipc, protocol, focus, claims } = { ...compared, ...changes };
  const params = new URLSearchParams({ dataset });
  if (ipc !== "") params.set("ipc", ipc); // else the one with most methods
  if (protocol) params.set("protocol", protocol);
  if (focus) params.set("at", focus.id);
  if (claims) params.set("claims", "1");
  history.replaceState(null, "", `#/?${params}`);
  const active = document.activeElement?.id;
  view.replaceChildren(compareView(params));
  document.getElementById(active)?.focus({ preventScroll: true });
  announce(`${called(compared.dataset)}, IPC ${compared.ipc}: ${count(compared.focus.rows.length, "method")} under ${called(compared.focus.published)}`);
}

function compareView(params) {
  const heading = el("div", { class: "intro" }, el("h1", null, "Dataset distillation, compared"), el("p", { class: "lead" }, summaryText()));
  if (!SETTINGS.length) return el("div", null, heading, el("p", { class: "note" }, "Nothing has been measured yet. ", el("a", { href: "#/results" }, "All results"), " lists published claims."));
  compared = readChoice(params);
  const { datasets, dataset, budgets, ipc, protocols, protocol, claims } = compared;
  const option = (kind, value, text, chosen, changes) => el("button", { type: "button", id: `${kind}-${value || "all"}`, "aria-pressed": String(chosen), onclick: () => choose(changes) }, text);
  const lines = matrixLines(compared);
  return el(
    "div",
    { class: "compare" },
    heading,
    el("div", { class: "tabs", role: "group", "aria-label": "Data set" }, datasets.map((name) => option("dataset", name, called(name), name === dataset, { dataset: name, ipc: "", protocol: "", focus: null }))),
    el(
      "div",
      { class: "choices" },
      choices("Images per class", budgets.map((value) => option("ipc", value, value === null ? "full" : value, value === ipc, { ipc: value, focus: null }))),
      choices("Protocol", [option("protocol", "", "All", !protocol, { protocol: "", focus: null }), protocols.map((name) => option("protocol", name, called(name), name === protocol, { protocol: name, focus: null }))]),
      CLAIMS.length > 0 && el("label", { class: "switch" }, el("input", { type: "checkbox", id: "claims", checked: claims, onchange: (event) => choose({ claims: event.target.checked }) }), "Published claims beside ours"),
    ),
    el("div", { class: "pair" }, el("div", { class: "side" }, matrix(compared, lines), tools(compared)), dotPlot(compared, lines)),
  );
}

function choices(title, buttons) {
  return el("div", { class: "choice" }, el("span", { class: "choice-title" }, title), el("div", { class: "pick", role: "group", "aria-label": title }, buttons));
}

// One line per method with its options: its row in every column, and what was published of it.
function matrixLines({ columns, focus, claims }) {
  const lines = new Map();
  const line = (key, row) => lines.get(key) || lines.set(key, { key, method: row.method, label: row.label, options: optionsOf(row), cells: new Map(), claimed: new Map() }).get(key);
  for (const setting of columns) {
    const seen = new Map();
    for (const row of setting.rows) {
      const again = seen.get(row.label) || 0; // a default that was changed in between
      seen.set(row.label, again + 1);
      line(`${row.label}\n${again}`, row).cells.set(setting, row);
    }
  }
  const at = (one) => one.cells.get(focus)?.mean ?? -Infinity;
  const inOrder = () => [...lines.values()].sort((a, b) => at(b) - at(a) || b.cells.size - a.cells.size || (a.label < b.label ? -1 : 1));
  if (!claims) return inOrder();
  const measured = inOrder();
  for (const setting of columns) {
    for (const [method, found] of claimsOf(setting)) {
      const own = measured.filter((one) => one.method === method);
      const place = own.find((one) => one.cells.has(setting)) || own[0] || line(`${method}\n0`, { method, label: method, records: [] });
      place.claimed.set(setting, found);
    }
  }
  return inOrder();
}

const signTexts = (row) => Object.entries(DATA.signs).filter(([sign]) => row.signs.includes(sign)).map(([sign, text]) => `${sign} ${text}`);

// Options as the label of a row names them.
function optionsOf(row) {
  const text = row.label.slice(row.method.length).trim().replace(/^\((.*)\)$/s, "$1");
  return text ? text.split(/, (?=[\w.-]+=)/) : [];
}

function matrix({ dataset, ipc, columns, focus, claims }, lines) {
  const twice = (setting) => columns.some((other) => other !== setting && other.published === setting.published && other.network === setting.network);
  const heads = columns.map((setting) => {
    const apart = twice(setting) ? `${fidelity(setting.preset)} ${setting.digest.slice(0, 4)}` : "";
    const details = [called(setting.network), apart, setting.extension && "extension"].filter(Boolean).join(" · ");
    const hint = [setting.settings, setting.preset, `protocol ${setting.digest.slice(0, 8)}`].filter(Boolean).join(", ");
    return el(
      "th",
      { scope: "col", class: setting === focus ? "num focus" : "num", "aria-sort": setting === focus ? "descending" : null },
      el("button", { type: "button", id: `at-${setting.id}`, title: hint, "aria-pressed": String(setting === focus), onclick: () => choose({ focus: setting }) }, called(setting.published), el("span", { class: "sub" }, details)),
    );
  });
  const usual = d3.greatest(d3.rollups(columns.flatMap((setting) => setting.rows), (rows) => rows.length, (row) => row.runs), ([, number]) => number)[0];
  const body = lines.map((line) =>
    el(
      "tr",
      null,
      el("th", { scope: "row" }, el("div", { class: "who" }, el("span", { class: "swatch", style: { background: colourOf(line.method) }, "aria-hidden": "true" }), el("span", null, link(["method", line.method], called(line.method), { class: "name" }), venueOf(line.method) && el("span", { class: "venue" }, venueOf(line.method)), line.options.length > 0 && el("span", { class: "sub" }, line.options.join(", "))))),
      columns.map((setting) => el("td", { class: setting === focus ? "num focus" : "num" }, matrixCell(line.cells.get(setting), usual, line.claimed.get(setting)))),
    ),
  );
  const whole = columns.map((setting) => ROWS.find((row) => row.ipc === null && ["dataset", "published", "network", "settings"].every((name) => row[name] === setting[name])));
  if (ipc !== null && whole.some(Boolean)) body.push(el("tr", { class: "whole" }, el("th", { scope: "row" }, el("div", { class: "who" }, el("span", { class: "swatch" }), "Whole set")), whole.map((row, place) => el("td", { class: columns[place] === focus ? "num focus" : "num" }, row ? matrixCell(row, row.runs) : "–"))));
  const caption = `${called(dataset)}${ipc === null ? "" : `, ${count(ipc, "image per class", "images per class")}`}: top-1 accuracy, %`;
  return el(
    "section",
    { "aria-label": "Methods by protocol" },
    el("h2", null, caption),
    scroller(caption, el("table", { class: "matrix", id: "matrix" }, el("caption", { class: "unseen" }, caption), el("thead", null, el("tr", null, el("th", { scope: "col" }, "Method"), heads)), el("tbody", null, body))),
    el("p", { class: "key" }, `Mean ± population standard deviation over all networks, ${usual} (distilled sets × networks trained on each) unless a small line says otherwise. `, el("strong", null, "Bold"), " best, ", el("u", null, "underlined"), " second of its column (never a single run), ≈ cannot be told from the best. A heading sorts and draws.", Object.entries(DATA.signs).filter(([sign]) => columns.some((setting) => setting.rows.some((row) => row.signs.includes(sign)))).map(([sign, text]) => ` ${sign} ${text}.`), claims && " ◇ As claimed in publications, never ranked with ours."),
  );
}

function matrixCell(row, usual, claims) {
  const cell = [];
  if (row) {
    const text = accuracyText(row);
    const ranked = row.rank === 1 ? el("strong", null, text) : row.rank === 2 ? el("u", null, text) : text;
    cell.push(link(["record", row.records[0].key], ranked, { class: "value", "aria-label": `${text} percent, ${row.label}: open the record` }), (row.tied || row.signs) && el("span", { class: "mark", title: [row.tied && "cannot be told from the best", ...signTexts(row)].filter(Boolean).join("; ") }, row.tied ? "≈" : "", row.signs), row.runs !== usual && el("span", { class: "sub" }, row.runs));
  }
  if (claims) {
    const claim = bestWitness(claims);
    const sources = claims.map((one) => `${one.text}: ${one.source}, ${one.place}`).join("\n");
    cell.push(el("span", { class: "sub claim", title: sources }, "◇ ", link(["source", claim.source], accuracyText(claim))));
  }
  return cell.length ? cell : el("span", { class: "none" }, "–");
}

// Options that tell the variants of one method in a plot apart.
function shortName(line, lines) {
  const variants = lines.filter((one) => one.method === line.method);
  const own = variants.length > 1 ? line.options.filter((text) => !variants.every((one) => one.options.includes(text))) : [];
  return cut([called(line.method), ...own].join(", "), innerWidth < 466 ? 16 : 24);
}

function dotPlot({ focus, claims }, lines) {
  const measured = lines.filter((line) => line.cells.has(focus));
  const shown = claims ? [...measured, ...lines.filter((line) => !line.cells.has(focus) && line.claimed.has(focus))] : measured;
  const points = measured.map((line) => ({ ...line.cells.get(focus), line: line.key }));
  const quoted = claims ? shown.filter((line) => line.claimed.has(focus)).map((line) => ({ ...bestWitness(line.claimed.get(focus)), line: line.key })) : [];
  const names = new Map(shown.map((line) => [line.key, shortName(line, shown.filter((one) => one.cells.has(focus)))]));
  const ends = [...points, ...quoted].flatMap((row) => [row.mean, row.low ?? row.mean, row.high ?? row.mean]);
  const [low, high] = d3.extent(ends);
  const room = Math.max(1, (high - low) * 0.06);
  const domain = [Math.max(0, low - room), high + room];
  const base = points.find((row) => row.label === DATA.baseline);
  const width = Math.max(300, Math.min(470, innerWidth - 66));
  const marginLeft = 14 + 6.9 * Math.min(22, d3.max(names.values(), (name) => name.length));
  const best = points.filter((row) => points.length > 1 && (row.tied || row.rank === 1));
  const plot = Plot.plot({
    width,
    height: 70 + 27 * shown.length,
    marginLeft: Math.min(marginLeft, width * (width < 400 ? 0.36 : 0.42)),
    marginRight: 82,
    marginTop: 26,
    marginBottom: 44,
    ariaLabel: `Accuracy by method under ${called(focus.published)} with 95 % intervals`,
    style: { background: "transparent", fontSize: "12.5px", fontFamily: "inherit", overflow: "visible" },
    x: { domain, label: "accuracy, %", labelArrow: "none", labelAnchor: "center", labelOffset: 34, ticks: width < 400 ? 4 : 5, grid: true },
    y: { domain: shown.map((line) => line.key), label: null, tickSize: 0, tickFormat: (key) => names.get(key), padding: 0.2 },
    marks: [
      Plot.barX(best, { x1: domain[0], x2: domain[1], y: "line", fill: "var(--accent)", fillOpacity: 0.13, className: "best" }),
      base && Plot.ruleX([base.mean], { stroke: "currentColor", strokeDasharray: "3 3", strokeOpacity: 0.55 }),
      base && Plot.text([base.mean], { x: (value) => value, frameAnchor: "top", dy: -10, text: () => called(DATA.baseline), fill: "currentColor", fillOpacity: 0.7, fontSize: 11 }),
      Plot.ruleY(points.filter((row) => row.low !== null), { y: "line", x1: "low", x2: "high", stroke: (row) => colourOf(row.method), strokeWidth: 2.25, className: "interval" }),
      Plot.dot(points, { x: "mean", y: "line", r: 5, fill: (row) => (row.low === null ? "var(--paper)" : colourOf(row.method)), stroke: (row) => colourOf(row.method), strokeWidth: 2, className: "measured" }),
      Plot.dot(quoted, { x: "mean", y: "line", r: 5, symbol: "diamond", fill: "none", stroke: "var(--warn)", strokeWidth: 1.75, className: "claimed" }),
      Plot.text(points, { frameAnchor: "right", y: "line", dx: 8, textAnchor: "start", text: accuracyText, fill: "currentColor" }),
      Plot.tip(points, Plot.pointerY({ x: "mean", y: "line", title: tipText })),
    ],
  });
  const legend = [
    best.length > 0 && "Shaded: the best and what cannot be told from it (Welch’s t test, Holm’s correction, 5 %).",
    points.some((row) => row.low !== null) && "Bars: 95 % interval of the mean over distilled sets and networks.",
    points.some((row) => row.low === null) && "Hollow: a single run, not tested.",
    quoted.length > 0 && "◇ Claimed in publications, not ranked.",
  ];
  return el("figure", { class: "panel dots" }, el("figcaption", null, `${called(focus.published)} protocol, ${called(focus.network)}${focus.labels === "unknown" ? "" : `, ${focus.labels} labels`}`, focus.extension && el("span", { class: "tag" }, "extension")), plot, el("p", { class: "sub" }, legend.filter(Boolean).join(" ")));
}

function tools({ dataset, ipc, columns }) {
  const board = DATA.boards.find((one) => one.dataset === dataset);
  const records = columns.flatMap((setting) => setting.rows.flatMap((row) => row.records));
  const cited = [...new Set(records.map((record) => aboutMethod(record.method.name).bibtex).filter(Boolean))];
  const save = (id, text, title, name, type, content) => el("button", { type: "button", class: "quiet", id: `save-${id}`, title, onclick: () => download(name, type, content()) }, text);
  const slug = `${dataset}-ipc${ipc}`.replace(/[^\w.-]+/g, "_");
  return el(
    "div",
    { class: "tools" },
    board && save("csv", "CSV", "All results on this data set", `${slug}.csv`, "text/csv", () => board.csv),
    board && save("latex", "LaTeX", "The tables of this data set", `${slug}.tex`, "application/x-tex", () => board.latex),
    cited.length > 0 && save("bibtex", "BibTeX", "The methods in this table", "methods.bib", "application/x-bibtex", () => `${cited.join("\n\n")}\n`),
    save("json", "Records, JSON", "The records behind this table", `${slug}.json`, "application/json", () => JSON.stringify(records.map(plainRecord), null, 1)),
    el("a", { class: "quiet", href: "#/submit" }, "How to submit"),
  );
}

// A record as this page holds it: everything but which test images were right.
function plainRecord({ row, ...record }) {
  return record;
}

function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  announce(`${name} was saved.`);
}

function submitView() {
  const steps = [
    ["Run it. Every cell becomes one record in ./registry.", "ddbench run -m METHOD -e EVALUATOR -d DATASET --ipc 10 --seed 0,1,2 --repeats 3"],
    ["A set that was distilled elsewhere is evaluated as it is.", "ddbench evaluate path/to/images --name METHOD -e EVALUATOR -d DATASET"],
    ["Bring records made elsewhere into a copy of this registry.", "ddbench registry import path/to/registry"],
    ["Check everything, make the tables again, and look at the page.", "ddbench registry verify && ddbench leaderboard && ddbench site"],
  ];
  return el(
    "article",
    { class: "prose" },
    el("h1", null, "How to submit"),
    el("p", null, "A result is a record: a file that holds every accuracy, every option, the protocol as data, seeds, costs and the command that repeats it. No number is entered by hand."),
    el("ol", null, steps.map(([text, command]) => el("li", null, el("p", null, text), commandBlock(command)))),
    el("p", null, "Commit the records with the tables and open a pull request to the repository of this registry; its checks recompute all digests and tables. Methods and protocols come as plugins: ", el("code", null, "ddbench new-plugin method mine"), " writes one to start from."),
  );
}
