// Contact sheets: one picture with a row per class, and tiles of it beside their text prototypes.

const sheetOf = (record) => DATA.sheets[record.set.digest];

function sideOf(sheet, most) {
  const native = Math.max(...sheet.tile);
  if (innerWidth <= 820) return Math.min(most, Math.floor((innerWidth - 120) / Math.min(sheet.columns, 10))); // the whole row fits a phone
  return native >= most ? most : native * Math.max(1, Math.floor(most / native));
}

function sheetFigure(record, { most = 48, columns = Infinity, caption } = {}) {
  const sheet = sheetOf(record);
  const side = sideOf(sheet, most);
  const rows = sheet.classes.length;
  if (sheet.columns <= 2) return el("figure", { class: "sheet" }, fewTiles(record, sheet, columns === Infinity ? 64 : 48), caption && el("figcaption", null, caption));
  const shown = Math.min(columns, sheet.columns);
  const image = el("img", {
    src: sheet.image,
    alt: `Distilled images of ${record.label || record.method.name}: one row per class, ${sheet.classes.map((shown) => shown.name).join(", ")}`,
    class: sheet.tile[0] < side ? "atlas crisp" : "atlas",
    width: side * sheet.columns,
    height: side * rows,
  });
  const labels = el("ul", { class: "classes", "aria-hidden": "true", style: { "grid-auto-rows": `${side}px` } }, sheet.classes.map(({ name }) => el("li", { title: name }, name)));
  const frameElement = el("div", { class: "window", style: { "--side": `${side}px`, width: `${side * shown}px`, height: `${side * rows}px` } }, image);
  const partial = rows < sheet.num_classes ? `${rows} of ${sheet.num_classes.toLocaleString("en")} classes are shown.` : "";
  return el("figure", { class: "sheet" }, el("div", { class: "sheet-body" }, labels, frameElement), (caption || partial) && el("figcaption", null, caption, caption && partial && " ", partial));
}

// One or two images per class read better side by side than as a narrow strip.
function fewTiles(record, sheet, side) {
  const items = sheet.classes.map(({ name, count: number }, row) =>
    el("li", null, el("span", { role: "img", "aria-label": `${name}: ${count(number, "image")}` }, Array.from({ length: number }, (_, column) => tile(sheet, row, column, side))), el("p", { "aria-hidden": "true" }, name)),
  );
  return el("ul", { class: "tiles", "aria-label": `Distilled images of ${record.method.label}` }, items);
}

function tile(sheet, row, column, side) {
  return el("span", {
    class: sheet.tile[0] < side ? "tile crisp" : "tile",
    "aria-hidden": "true",
    style: {
      width: `${side}px`,
      height: `${side}px`,
      "background-image": `url("${sheet.image}")`,
      "background-size": `${side * sheet.columns}px ${side * sheet.classes.length}px`,
      "background-position": `${-column * side}px ${-row * side}px`,
    },
  });
}

function promptList(record) {
  const sheet = sheetOf(record);
  if (!sheet || !sheet.classes.some(({ prompts }) => prompts.length)) return null;
  const side = 64;
  return sheet.classes.map(({ name, prompts }, row) =>
    el(
      "details",
      { class: "prompts", open: row === 0 },
      el("summary", null, name, el("span", { class: "sub inline" }, count(prompts.length, "text prototype"))),
      el("ul", null, prompts.map((text, column) => el("li", null, tile(sheet, row, column, side), el("p", null, text)))),
    ),
  );
}

// Baselines, which are real images, come first: what was made has to be better than they are.
function baselinesFirst(record) {
  const place = DATA.first.indexOf(record.method.name);
  return place < 0 ? DATA.first.length : place;
}

const titleOf = (record) => called(record.method.name) + record.method.label.slice(record.method.name.length);

// The accuracy of a set’s method under every protocol it was measured with.
function accuracies(record) {
  const rows = ROWS.filter((row) => row.method === record.method.name && row.dataset === record.data.name && row.ipc === record.ipc && row.records.some((other) => other.set.digest === record.set.digest));
  return el("ul", { class: "scores" }, rows.map((row) => el("li", null, el("strong", null, `${accuracyText(row)} %`), ` ${called(row.published)}, ${called(row.network)}`)));
}

function galleryView(params) {
  const withSheets = RECORDS.filter(sheetOf);
  if (!withSheets.length) {
    return el("div", null, el("h1", null, "Gallery"), el("p", { class: "note" }, "No contact sheet is kept with these records. `ddbench gallery --keep` keeps them."));
  }
  const choose = (name, values, chosen) =>
    el(
      "div",
      { class: "field" },
      el("label", { for: `gallery-${name}` }, { dataset: "Data set", ipc: "IPC" }[name]),
      el(
        "select",
        {
          id: `gallery-${name}`,
          onchange: (event) => {
            const next = new URLSearchParams(params);
            next.set(name, event.target.value);
            location.replace(`#/gallery?${next}`);
          },
        },
        values.map((value) => el("option", { value, selected: String(value) === String(chosen) }, called(String(value)))),
      ),
    );
  const datasets = [...new Set(withSheets.map((record) => record.data.name))].sort();
  const dataset = datasets.includes(params.get("dataset")) ? params.get("dataset") : datasets[0];
  const mine = withSheets.filter((record) => record.data.name === dataset);
  const budgets = [...new Set(mine.map((record) => record.ipc))].sort((a, b) => a - b);
  const wanted = Number(params.get("ipc"));
  const methodsAt = (budget) => new Set(mine.filter((record) => record.ipc === budget).map((record) => record.method.label)).size;
  const ipc = budgets.includes(wanted) ? wanted : d3.greatest(budgets, methodsAt);
  const seen = new Map();
  for (const record of mine.filter((record) => record.ipc === ipc).sort((a, b) => a.seed - b.seed)) {
    if (!seen.has(record.method.label)) seen.set(record.method.label, record);
  }
  const cards = d3.sort(seen.values(), baselinesFirst, (record) => record.method.label).map((record) =>
    el(
      "article",
      { class: "card" },
      el("h2", null, link(["record", record.key], titleOf(record))),
      accuracies(record),
      sheetFigure(record, { most: 34, columns: 7, caption: `seed ${record.seed}, ${count(record.set.count, "image")}` }),
      signTexts(record.row).map((text) => el("p", { class: "sub" }, text)),
    ),
  );
  return el(
    "div",
    null,
    el("h1", null, "Gallery"),
    el("p", { class: "lead" }, "The same classes, row by row, as each method distils them. A title opens the record with all its images."),
    el("div", { class: "filters chooser" }, el("div", { class: "fields" }, choose("dataset", datasets, dataset), choose("ipc", budgets, ipc))),
    el("div", { class: "cards" }, cards),
  );
}
