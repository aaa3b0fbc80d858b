// The data block as objects that know each other; ddbench/site/data.py says what they hold.

const DATA = JSON.parse(document.getElementById("data").textContent);

const RECORDS = DATA.records;
for (const record of RECORDS) for (const name of DATA.shared_fields) record[name] = DATA.shared[record[name]];

const BY_KEY = new Map(RECORDS.map((record) => [record.key, record]));

// Rows of the table: measured cells (all seeds together), then published claims.
const ROWS = DATA.rows.map((cell) => {
  const records = cell.records.map((number) => RECORDS[number]);
  const first = records[0];
  const row = {
    ...cell,
    kind: "measured",
    records,
    method: first.method.name,
    dataset: first.data.name,
    ipc: first.ipc,
    fingerprint: first.data.fingerprint,
    protocol: first.evaluator.name,
    published: first.protocol.published,
    extension: first.protocol.extension !== "",
    settings: optionText(cell.explicit),
    network: first.network,
    labels: first.protocol.labels,
    metric: first.metric,
    seconds: first.costs.distil,
    bytes: first.costs.images + first.costs.labels,
  };
  for (const record of records) record.row = row;
  return row;
});

const CLAIMS = DATA.claims.map((claim) => ({ ...claim, kind: "claimed", label: claim.method, records: [], gain: null, seconds: null, bytes: null }));

const EVERYTHING = ROWS.concat(CLAIMS);
for (const row of EVERYTHING) {
  row.budget = row.ipc === null ? "full" : String(row.ipc);
  row.search = [row.label, called(row.method), row.dataset, called(row.dataset), row.network, row.protocol, row.published, row.settings, row.preset, venueOf(row.method), row.source, row.note, row.digest]
    .filter(Boolean)
    .join("\n")
    .toLowerCase();
}

// What competes stands together, the best first.
const PLACE = ["dataset", "protocol", "settings", "preset", "network", "labels", "source"];
EVERYTHING.sort((a, b) => {
  for (const name of PLACE) {
    const [one, two] = [a[name] || "", b[name] || ""];
    if (one !== two) return one < two ? -1 : 1;
  }
  return (a.ipc ?? Infinity) - (b.ipc ?? Infinity) || b.mean - a.mean || 0;
});

// What publications call it, and where a method was published.
function called(name) {
  return Object.hasOwn(DATA.names, name) ? DATA.names[name] : name;
}

function aboutMethod(name) {
  return Object.hasOwn(DATA.methods, name) ? DATA.methods[name] : {};
}

function venueOf(name) {
  return aboutMethod(name).venue || "";
}

function optionText(options) {
  return Object.entries(options)
    .map(([name, value]) => `${name}=${valueText(value)}`)
    .join(", ");
}

function valueText(value) {
  if (value === null || value === undefined) return "none";
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  return typeof value === "string" ? value : JSON.stringify(value);
}
