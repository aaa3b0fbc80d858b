// The table of results: DataTables sorts and pages; cells are elements made here.

const NOTHING = -Infinity;
const number = (value) => (value === null || value === undefined ? NOTHING : value);

const COLUMNS = [
  { title: "Method", sort: (row) => row.label.toLowerCase(), cell: methodCell, kind: "text" },
  { title: "Venue", sort: (row) => venueOf(row.method), cell: (row) => venueOf(row.method) || "–", kind: "text", extra: true },
  { title: "Paper", sort: (row) => aboutMethod(row.method).paper || "", cell: paperCell, kind: "text", extra: true },
  { title: "Data set", sort: (row) => row.dataset, cell: (row) => called(row.dataset), kind: "text", wide: true },
  { title: "IPC", sort: (row) => (row.ipc === null ? 1e9 : row.ipc), cell: (row) => row.budget, kind: "num", wide: true },
  { title: "Protocol", sort: (row) => `${row.protocol}\n${row.digest || ""}`, cell: protocolCell, kind: "text", wide: true },
  { title: "Network", sort: (row) => row.network, cell: (row) => called(row.network), kind: "text", wide: true },
  { title: "Labels", sort: (row) => row.labels, cell: (row) => row.labels, kind: "text", wide: true },
  { title: "Accuracy, %", sort: (row) => number(row.mean), cell: accuracyCell, kind: "num" },
  { title: "Gain", hint: "points over the baseline in the same place", sort: (row) => number(row.gain), cell: gainCell, kind: "num", wide: true },
  { title: "Runs", hint: "distilled sets × networks trained on each", sort: (row) => number(row.sets), cell: (row) => row.runs || "–", kind: "num", extra: true },
  { title: "Distil", hint: "time to distil one set", sort: (row) => number(row.seconds), cell: (row) => seconds(row.seconds), kind: "num", extra: true },
  { title: "Stored", hint: "bytes of images and labels", sort: (row) => number(row.bytes), cell: (row) => bytes(row.bytes), kind: "num", extra: true },
  { title: "Source", sort: (row) => row.kind + (row.source || ""), cell: sourceCell, kind: "text", wide: true },
];

const MEASURED_ONLY = COLUMNS.flatMap((column, place) => (["Gain", "Runs", "Distil", "Stored"].includes(column.title) ? [place] : []));

function methodCell(row) {
  const options = optionsOf(row).join(", ");
  const where = [called(row.dataset), `IPC ${row.budget}`, called(row.published || row.protocol), called(row.network)].join(" · ");
  return el(
    "span",
    null,
    link(["method", row.method], called(row.method), { class: "name" }),
    options && el("span", { class: "sub" }, options),
    el("span", { class: "sub phone" }, where),
    row.kind === "claimed" && el("span", { class: "phone" }, sourceCell(row)),
  );
}

function paperCell(row) {
  const { paper } = aboutMethod(row.method);
  return paper ? el("span", { title: paper }, paper.split(/,| et al\.| and /)[0] + (/ et al\./.test(paper) ? " et al." : "")) : "–";
}

function protocolCell(row) {
  const details = [row.settings, row.preset].filter(Boolean).join(" · ");
  return el("span", null, called(row.published || row.protocol), row.extension && el("span", { class: "tag" }, "extension"), details && el("span", { class: "sub" }, details));
}

function accuracyCell(row) {
  const text = accuracyText(row);
  const measure = METRICS[row.metric] && el("span", { class: "sub" }, METRICS[row.metric]);
  if (!row.records.length) return el("span", null, text, measure);
  const label = `${text} percent, ${row.label}: open the record`;
  return el("span", null, link(["record", row.records[0].key], text, { class: "value", "aria-label": label }), measure);
}

function gainCell(row) {
  if (row.gain === null) return "–";
  return el("span", { class: row.gain >= 0 ? "up" : "down" }, signed(row.gain));
}

function sourceCell(row) {
  if (row.kind === "measured") return el("span", { class: "tag measured" }, "measured");
  return el("span", null, el("span", { class: "tag claimed" }, "claimed"), el("span", { class: "sub" }, link(["source", row.source], row.source), `, ${row.place}`));
}

class ResultTable {
  constructor(holder, sorted) {
    const head = COLUMNS.map((column) => el("th", { scope: "col", title: column.hint }, column.title));
    const element = el(
      "table",
      { class: "results", id: "results-table" },
      el("caption", { class: "unseen" }, "Results: one row per method, data set, budget, protocol and network. Column headings sort."),
      el("thead", null, el("tr", null, head)),
    );
    holder.append(element);
    this.keep = () => true;
    this.table = new DataTable(element, {
      data: EVERYTHING,
      columns: COLUMNS.map((column) => ({
        data: null,
        type: column.kind === "num" ? "num" : "string",
        className: [column.kind, column.wide ? "wide" : "", column.extra ? "wide extra" : ""].join(" ").trim(),
        orderSequence: column.kind === "num" ? ["desc", "asc"] : ["asc", "desc"],
        searchable: false,
        render: (data, type, row) => (type === "display" ? asNode(column.cell(row)) : column.sort(row)),
      })),
      order: [], // as decode.js arranged them
      autoWidth: false,
      deferRender: true,
      orderClasses: false,
      pageLength: 50,
      layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: { paging: { firstLast: false } } },
      language: {
        info: "_START_–_END_ of _TOTAL_ results",
        infoEmpty: "No results",
        infoFiltered: "",
        zeroRecords: "Nothing fits these filters.",
        emptyTable: "This registry holds no records yet.",
      },
      search: { smart: false },
    });
    this.order = "";
    this.table.on("order", () => {
      const order = this.table.order().map(([place, way]) => `${COLUMNS[place].title.split(",")[0]} ${way}`).join();
      if (order === this.order) return;
      this.order = order;
      sorted();
    });
    this.table.search.fixed("filters", (text, row) => this.keep(row));
  }

  // Take over the order of an address, as “Accuracy desc”; without one, settings stand together with the best first.
  sort(text) {
    const [, title, way] = text.match(/^(.*) (asc|desc)$/) || [];
    const place = COLUMNS.findIndex((column) => column.title.split(",")[0] === title);
    this.order = place < 0 ? "" : text;
    this.table.order(place < 0 ? [] : [[place, way]]);
  }

  // Claims have no costs; their columns would be empty.
  filter(keep, claims) {
    this.keep = keep;
    this.table.columns(MEASURED_ONLY).visible(!claims, false);
    this.table.draw();
  }
}

function asNode(content) {
  return content instanceof Node ? content : document.createTextNode(String(content));
}
