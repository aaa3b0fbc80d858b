// The other pages: boards in the papers' style, methods, sources, and about.

function missing(what, name) {
  return el("div", null, el("h1", null, `No such ${what}`), el("p", null, `This page holds no ${what} called “${name}”. `, el("a", { href: "#/results" }, "All results")));
}

function boardsView(name) {
  if (!DATA.boards.length) return el("div", null, el("h1", null, "Boards"), el("p", { class: "note" }, "There are no boards yet."));
  const board = name === undefined ? DATA.boards[0] : DATA.boards.find((each) => each.name === name);
  if (!board) return missing("board", name);
  const tabs = DATA.boards.map((each) => el("li", null, link(["boards", each.name], each.title, { "aria-current": each === board ? "page" : null })));
  return el(
    "div",
    { class: "boards" },
    el("h1", null, "Boards"),
    el("nav", { class: "pills", "aria-label": "Boards" }, el("ul", null, tabs)),
    el("h2", { class: "board-title" }, board.title),
    board.lead && el("p", { class: "lead" }, board.lead),
    board.tables.map((content, index) => boardTable(content, index, board.title)),
  );
}

const BOARD_ROWS = 100;

function boardTable(content, index, title) {
  const head = content.head.map((column) => el("th", { scope: "col", class: column.number ? "num" : "text" }, column.text));
  const id = `board-${index}`;
  const table = el("table", { class: "board" }, el("caption", { class: "unseen" }, content.title), el("thead", null, el("tr", null, head)));
  const holder = scroller(content.title, table);
  const long = content.rows.length > BOARD_ROWS;
  new DataTable(table, {
    data: content.rows,
    columns: content.head.map((column, place) => ({
      data: place,
      type: column.number || place === 0 ? "num" : "string",
      className: column.number ? "num" : "text",
      cellType: place ? "td" : "th",
      createdCell: (cell) => place || cell.setAttribute("scope", "row"),
      orderSequence: column.number ? ["desc", "asc"] : ["asc", "desc"],
      render: (cell, type) => (type === "display" ? el("span", null, boardCell(cell)) : (cell.order ?? (column.number ? NOTHING : cell.text))),
    })),
    paging: long,
    pageLength: BOARD_ROWS,
    info: long,
    searching: false,
    autoWidth: false,
    deferRender: true,
    orderClasses: false,
    order: [],
    layout: { topStart: null, topEnd: null, bottomStart: long ? "info" : null, bottomEnd: long ? "paging" : null },
  });
  const notes = content.notes.length > 0 && el("ul", null, content.notes.map((text) => el("li", null, text)));
  if (content.folded) return el("details", { class: "notes" }, el("summary", null, content.title), content.head.length > 0 && holder, notes);
  return el(
    "section",
    { class: "block", "aria-labelledby": id },
    el("h3", { id, class: content.title === title ? "unseen" : null }, content.title),
    content.plot === "pairs" && pairPlot(),
    holder,
    notes && el("details", { class: "notes" }, el("summary", null, count(content.notes.length, "note")), notes),
  );
}

function boardCell(cell) {
  const inner = cell.rank === 1 ? el("strong", null, cell.text) : cell.rank === 2 ? el("u", null, cell.text) : cell.text;
  return [inner, cell.mark && el("span", { class: "mark" }, ` ${cell.mark}`), cell.small && el("span", { class: "sub" }, cell.small)];
}

function methodsView() {
  const counts = new Map();
  for (const row of EVERYTHING) {
    const own = counts.get(row.method) || { measured: 0, claimed: 0 };
    own[row.kind] += 1;
    counts.set(row.method, own);
  }
  const names = [...counts.keys()].sort((a, b) => counts.get(b).measured - counts.get(a).measured || counts.get(b).claimed - counts.get(a).claimed || (a < b ? -1 : 1));
  const rows = names.map((name) => {
    const own = counts.get(name);
    const known = aboutMethod(name);
    return el(
      "tr",
      null,
      el("th", { scope: "row", class: "text" }, link(["method", name], called(name), { class: "name" }), known.summary && el("span", { class: "sub" }, known.summary)),
      el("td", { class: "text" }, known.venue || "–"),
      el("td", { class: "text wide" }, known.paper || "–"),
      el("td", { class: "num" }, own.measured || "–"),
      el("td", { class: "num" }, own.claimed || "–"),
    );
  });
  const head = [["Method", "text"], ["Venue", "text"], ["Paper", "text wide"], ["Measured", "num"], ["Claimed", "num"]].map(([text, kind]) => el("th", { scope: "col", class: kind }, text));
  return el("div", null, el("h1", null, "Methods"), el("table", { class: "board plain" }, el("caption", { class: "unseen" }, "Methods with how many results are measured and claimed"), el("thead", null, el("tr", null, head)), el("tbody", null, rows)));
}

function methodView(name) {
  const rows = EVERYTHING.filter((row) => row.method === name);
  if (!rows.length) return missing("method", name);
  const known = aboutMethod(name);
  const measured = rows.filter((row) => row.kind === "measured");
  const claimed = rows.filter((row) => row.kind === "claimed");
  const places = new Set(measured.map((row) => [row.dataset, row.protocol, row.network, row.digest].join("\n")));
  const budgets = new Set(measured.map((row) => [row.dataset, row.protocol, row.network].join("\n")));
  const competitors = ROWS.filter((row) => places.has([row.dataset, row.protocol, row.network, row.digest].join("\n")) || (row.ipc === null && budgets.has([row.dataset, row.protocol, row.network].join("\n"))));
  const pictured = measured.map((row) => row.records[0]).filter(sheetOf).sort((a, b) => b.ipc - a.ipc).slice(0, 3);
  return el(
    "article",
    null,
    el("nav", { class: "crumbs", "aria-label": "Path" }, link(["methods"], "Methods")),
    el("h1", null, called(name)),
    known.summary && el("p", { class: "lead" }, known.summary),
    known.paper && el("p", { class: "sub" }, [known.paper, known.venue].filter(Boolean).join(", ")),
    el("p", null, el("a", { href: `#/results?${new URLSearchParams({ method: name, kind: "all" })}` }, `All ${count(rows.length, "result")} in the table`)),
    measured.length > 0 && section("Measured", scroller(`Measured results of ${name}`, resultList(measured))),
    competitors.length > measured.length && section("Against the others", plotPage(competitors, overBudget)),
    pictured.length > 0 && section("Distilled images", el("div", { class: "cards" }, pictured.map((record) => el("article", { class: "card" }, el("h3", null, link(["record", record.key], `${called(record.data.name)}, IPC ${record.ipc}`)), sheetFigure(record, { most: 34, columns: 7 }))))),
    claimed.length > 0 && section("Claimed in publications", scroller(`Claims about ${name}`, claimList(claimed))),
    known.bibtex && section("Citation", el("pre", { tabindex: "0", "aria-label": "BibTeX" }, el("code", null, known.bibtex))),
  );
}

function listTable(caption, heads, rows) {
  const head = heads.map(([text, kind]) => el("th", { scope: "col", class: kind }, text));
  const body = rows.map((cells) => el("tr", null, cells.map((cell, place) => el("td", { class: heads[place][1] }, cell))));
  return el("table", { class: "board plain" }, el("caption", { class: "unseen" }, caption), el("thead", null, el("tr", null, head)), el("tbody", null, body));
}

function byPlace(a, b) {
  return a.dataset < b.dataset ? -1 : a.dataset > b.dataset ? 1 : (a.ipc ?? Infinity) - (b.ipc ?? Infinity) || b.mean - a.mean;
}

function resultList(rows) {
  const heads = [["Data set", "text"], ["IPC", "num"], ["Options", "text"], ["Protocol", "text"], ["Network", "text"], ["Accuracy, %", "num"], ["Gain", "num"], ["Runs", "num"]];
  const cells = rows.slice().sort(byPlace).map((row) => [called(row.dataset), row.budget, optionsOf(row).join(", ") || "–", protocolCell(row), called(row.network), accuracyCell(row), gainCell(row), row.runs]);
  return listTable("Measured results", heads, cells);
}

function claimList(rows) {
  const heads = [["Data set", "text"], ["IPC", "num"], ["Protocol", "text"], ["Network", "text"], ["Claimed, %", "num"], ["Whose", "text"], ["Source", "text"]];
  const cells = rows.slice().sort(byPlace).slice(0, 200).map((row) => [called(row.dataset), row.budget, called(row.protocol), called(row.network), accuracyCell(row), WHOSE[row.whose] || row.whose, el("span", null, link(["source", row.source], row.source), `, ${row.place}`)]);
  const rest = rows.length - cells.length;
  return [listTable("Published claims", heads, cells), rest > 0 && el("p", { class: "sub" }, `and ${rest} more in the table of results.`)];
}

function sourceView(key) {
  const rows = CLAIMS.filter((row) => row.source === key);
  if (!rows.length) return missing("source", key);
  const heads = [["Method", "text"], ["Data set", "text"], ["IPC", "num"], ["Protocol", "text"], ["Network", "text"], ["Claimed, %", "num"], ["Whose", "text"], ["Place", "text"], ["Note", "text"]];
  const cells = rows.map((row) => [link(["method", row.method], called(row.method)), called(row.dataset), row.budget, called(row.protocol), called(row.network), accuracyCell(row), WHOSE[row.whose] || row.whose, row.place, row.note]);
  return el("article", null, el("nav", { class: "crumbs", "aria-label": "Path" }, el("a", { href: "#/results?kind=claimed" }, "Claims")), el("h1", null, key), DATA.sources[key] && el("p", { class: "lead" }, DATA.sources[key]), el("p", { class: "sub" }, count(rows.length, "number"), " read in this source."), scroller(`Claims of ${key}`, listTable(`Claims of ${key}`, heads, cells)));
}

function aboutView() {
  const sets = new Set(RECORDS.map((record) => record.set.digest)).size;
  return el(
    "article",
    { class: "prose" },
    el("h1", null, "About this page"),
    el("p", null, `It was made by ddbench ${DATA.version} from ${count(RECORDS.length, "record")} of ${count(sets, "distilled set")} and ${count(CLAIMS.length, "published claim")} from ${count(Object.keys(DATA.sources).length, "source")}. Everything is inside this one file; it loads nothing.`),
    el("h2", null, "Reading the numbers"),
    el(
      "ul",
      null,
      el("li", null, el("strong", null, "Measured"), " numbers come from a record in the registry: mean ± population standard deviation in percent over all networks trained on all distilled sets of that cell. Runs are written as distilled sets × networks trained on each."),
      el("li", null, el("strong", null, "Claimed"), " numbers were read in publications and are shown as printed. They are never averaged or ranked together with measured ones."),
      el("li", null, "Two results compare only when data set, budget, network and the protocol’s digest are the same. A record links to everything measured under its protocol."),
      el("li", null, el("strong", null, "Gain"), ` is the difference from ${DATA.baseline} with its default options in the same place, in points.`),
      el("li", null, `Training curves show at most 40 points, contact sheets at most ten classes with ten images each.`),
    ),
    Object.keys(DATA.sources).length > 0 && el("h2", null, "Sources of claims"),
    Object.keys(DATA.sources).length > 0 && el("ul", null, Object.entries(DATA.sources).map(([key, text]) => el("li", null, link(["source", key], key), ` – ${text}`))),
    DATA.problems.length > 0 && el("h2", null, "Left out"),
    DATA.problems.length > 0 && el("ul", null, DATA.problems.map((text) => el("li", null, text))),
    el("h2", null, "Made with"),
    el("p", null, "DataTables (MIT licence), D3 and Observable Plot (ISC licence), bundled in this file."),
    Object.entries(DATA.licences).map(([name, text]) => el("details", { class: "deep" }, el("summary", null, `Licence of ${name}`), el("pre", { tabindex: "0", "aria-label": `Licence of ${name}` }, text))),
  );
}
