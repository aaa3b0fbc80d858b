// The table of results: DataTables sorts and pages; cells are elements made here.

const NOTHING = -Infinity;
const number = (value) => (value === null || value === undefined ? NOTHING : value);

const COLUMNS = [
  { title: "Method", sort: (row) => row.label.toLowerCase(), cell: methodCell, kind: "text" },
  { title: "Data set", sort: (row) => row.dataset, cell: (row) => row.dataset, kind: "text", wide: true },
  { title: "IPC", sort: (row) => (row.ipc === null ? 1e9 : row.ipc), cell: (row) => row.budget, kind: "num", wide: true },
  { title: "Protocol", sort: (row) => `${row.protocol}\n${row.digest || ""}`, cell: protocolCell, kind: "text", wide: true },
  { title: "Network", sort: (row) => row.network, cell: (row) => row.network, kind: "text", wide: true },
  { title: "Labels", sort: (row) => row.labels, cell: (row) => row.labels, kind: "text", wide: true },
  { title: "Accuracy, %", sort: (row) => number(row.mean), cell: accuracyCell, kind: "num", first: "desc" },
  { title: "Gain", hint: "points over the baseline in the same place", sort: (row) => number(row.gain), cell: gainCell, kind: "num", first: "desc", wide: true },
  { title: "Runs", hint: "distilled sets × networks trained on each", sort: (row) => number(row.sets), cell: (row) => row.runs || "–", kind: "num", first: "desc", extra: true },
  { title: "Distil", hint: "time to distil one set", sort: (row) => number(row.seconds), cell: (row) => seconds(row.seconds), kind: "num", extra: true },
  { title: "Stored", hint: "bytes of images and labels", sort: (row) => number(row.bytes), cell: (row) => bytes(row.bytes), kind: "num", extra: true },
  { title: "Source", sort: (row) => row.kind + (row.source || ""), cell: sourceCell, kind: "text", wide: true },
];

const MEASURED_ONLY = COLUMNS.flatMap((column, place) => (["Gain", "Runs", "Distil", "Stored"].includes(column.title) ? [place] : []));

function methodCell(row) {
  const options = row.label === row.method ? "" : row.label.slice(row.method.length).trim().replace(/^\((.*)\)$/s, "$1");
  const where = `${row.dataset} · IPC ${row.budget} · ${row.protocol} · ${row.network}`;
  return el(
    "span",
    null,
    link(["method", row.method], row.method, { class: "name" }),
    options && el("span", { class: "sub" }, options),
    el("span", { class: "sub phone" }, where),
    row.kind === "claimed" && el("span", { class: "phone" }, sourceCell(row)),
  );
}

function protocolCell(row) {
  const details = [row.settings, row.preset].filter(Boolean).join(" · ");
  return el("span", null, row.protocol, row.extension && el("span", { class: "tag" }, "extension"), details && el("span", { class: "sub" }, details));
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
  constructor(holder) {
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
        orderSequence: column.first === "desc" ? ["desc", "asc"] : ["asc", "desc"],
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
    this.table.search.fixed("filters", (text, row) => this.keep(row));
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
