// The data block as objects; ddbench/site/data.py says what each position holds.

const DATA = JSON.parse(document.getElementById("data").textContent);
const POOL = DATA.pool;

const RECORDS = DATA.records.map((r, index) => ({
  index,
  key: r[0],
  digest: r[1],
  data: POOL[r[2]],
  method: POOL[r[3]],
  ipc: r[4],
  seed: r[5],
  evaluator: POOL[r[6]],
  network: POOL[r[7]],
  evaluationSeed: r[8],
  preset: POOL[r[9]],
  protocol: POOL[r[10]],
  metric: r[11][0],
  selection: r[11][1],
  testImages: r[11][2],
  values: r[12],
  last: r[13],
  best: r[14],
  curves: r[15],
  set: { key: r[16][0], digest: r[16][1], count: r[16][2], form: POOL[r[16][3]] },
  extra: POOL[r[17]],
  shrunk: POOL[r[18]],
  costs: { distil: r[19][0], evaluate: r[19][1], peak: r[19][2], images: r[19][3], labels: r[19][4] },
  steps: r[20],
  environment: POOL[r[21]],
  command: r[22],
  path: r[23],
}));

const BY_KEY = new Map(RECORDS.map((record) => [record.key, record]));

// Rows of the table: measured cells (all seeds together), then published claims.
const ROWS = DATA.rows.map((r) => {
  const records = r[0].map((i) => RECORDS[i]);
  const first = records[0];
  const row = {
    kind: "measured",
    records,
    method: first.method.name,
    label: first.method.label,
    dataset: first.data.name,
    ipc: first.ipc,
    protocol: first.evaluator.name,
    digest: first.protocol.digest,
    extension: first.protocol.extension !== "",
    preset: first.preset,
    settings: optionText(first.evaluator.explicit),
    network: first.network,
    labels: first.protocol.labels,
    metric: first.metric,
    mean: r[1] === null ? null : 100 * r[1],
    std: r[2] === null ? null : 100 * r[2],
    low: r[3] === null ? null : 100 * r[3],
    high: r[4] === null ? null : 100 * r[4],
    runs: r[5],
    sets: r[6],
    gain: r[7] === null ? null : 100 * r[7],
    seconds: first.costs.distil,
    bytes: first.costs.images + first.costs.labels,
  };
  for (const record of records) record.row = row;
  return row;
});

const CLAIMS = DATA.claims.map((c) => ({
  kind: "claimed",
  dataset: POOL[c[0]],
  method: POOL[c[1]],
  label: POOL[c[1]],
  protocol: POOL[c[2]],
  network: POOL[c[3]],
  labels: POOL[c[4]],
  metric: POOL[c[5]],
  ipc: c[6],
  mean: c[7],
  std: c[8],
  text: c[9],
  whose: POOL[c[10]],
  source: POOL[c[11]],
  place: POOL[c[12]],
  note: POOL[c[13]],
  records: [],
  gain: null,
  seconds: null,
  bytes: null,
}));

const EVERYTHING = ROWS.concat(CLAIMS);
for (const row of EVERYTHING) {
  row.budget = row.ipc === null ? "full" : String(row.ipc);
  row.search = [row.label, row.dataset, row.network, row.protocol, row.settings, row.preset, row.source, row.note, row.digest]
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
