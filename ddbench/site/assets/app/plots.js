// Plots (Observable Plot): accuracy over budget and over cost, one panel per data set, protocol and network.

// One colour per method, on every page and in every plot: in the order of boards.toml, then by number of results, so that
// those compared most are the most distinct and new records change none of them.
const COLOURS = ["#3f69d6", "#8f7a1c", "#00857a", "#7c52cc", "#9c6b3f", "#3d9a3a", "#3496cf", "#1fae9a", "#b0468a", "#6b7f2a", "#93a32c", "#5f8f6b", "#d653a6", "#e07b00", "#c9a100", "#d93a46", "#6f7ee0", "#c4624a", "#a35fae"];
const GREY = "#7d8794";
const colours = new Map([[DATA.baseline, GREY]]);
const declared = Object.keys(DATA.names);
const rank = (method) => (declared.indexOf(method) + declared.length + 1) % (declared.length + 1);
for (const method of d3.groupSort(EVERYTHING.filter((row) => row.ipc !== null), (rows) => rank(rows[0].method) * 1e6 - rows.length, (row) => row.method)) {
  if (colours.has(method)) continue;
  const place = colours.size - 1;
  const { h, c, l } = d3.hcl(COLOURS[place % COLOURS.length]);
  colours.set(method, d3.hcl(h + 11 * Math.floor(place / COLOURS.length), c, l).formatHex());
}
const colourOf = (method) => colours.get(method) || GREY;
const hue = (row) => colourOf(row.method);

const PANELS = 6;

const COSTS = {
  seconds: { title: "seconds to distil", of: (row) => row.seconds },
  bytes: { title: "bytes stored (images and labels)", of: (row) => row.bytes },
};

function lineMarks(rows, x, options) {
  const hollow = (row) => (row.kind === "claimed" ? "var(--paper)" : hue(row));
  return [
    Plot.line(rows, { x, y: "mean", z: "label", stroke: hue, ...options }),
    Plot.dot(rows, { x, y: "mean", fill: hollow, stroke: hue, strokeWidth: 1.75, r: 3.25 }),
  ];
}

// The name of every line at the right edge, beside its last point; names that would touch are pushed apart.
function endLabels(rows, place, { domain, top, height }) {
  const toPixel = ([low, high]) => (value) => top + ((high - value) / (high - low)) * height;
  const pixel = toPixel(domain);
  const last = d3.rollups(rows, (members) => d3.greatest(members, place), (row) => row.label).map(([, row]) => ({ row, at: pixel(row.mean) }));
  last.sort((a, b) => a.at - b.at);
  const gap = Math.min(13.5, height / Math.max(1, last.length - 1));
  const kept = gap < 9 ? last.filter((label, number) => number % Math.ceil(9 / gap) === 0) : last;
  for (let number = 1; number < kept.length; number += 1) kept[number].at = Math.max(kept[number].at, kept[number - 1].at + gap);
  let floor = top + height;
  for (const label of kept.slice().reverse()) {
    label.at = Math.min(label.at, floor);
    floor = label.at - gap;
  }
  const back = (at) => domain[1] - ((at - top) / height) * (domain[1] - domain[0]);
  return Plot.text(kept, { frameAnchor: "right", textAnchor: "start", dx: 8, y: (label) => back(label.at), text: (label) => cut(called(label.row.method) + label.row.label.slice(label.row.method.length), 17), fill: (label) => hue(label.row), fontWeight: 600, fontSize: 11.5, className: "ends" });
}

const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function panelsOf(rows) {
  const panels = new Map();
  for (const row of rows) {
    if (row.mean === null || METRICS[row.metric]) continue;
    const names = [called(row.dataset), called(row.published || row.protocol), called(row.network), row.kind === "claimed" ? `claimed, ${row.source}` : fidelity(row.preset)];
    const title = names.filter(Boolean).join(" · ");
    if (!panels.has(title)) panels.set(title, []);
    panels.get(title).push(row);
  }
  return [...panels.entries()].filter(([, members]) => new Set(members.filter((row) => row.ipc !== null).map((row) => row.method)).size > 1).sort((a, b) => new Set(b[1].map((r) => r.ipc)).size - new Set(a[1].map((r) => r.ipc)).size || b[1].length - a[1].length);
}

function plotPage(rows, draw) {
  const panels = panelsOf(rows).filter(([, members]) => draw(members, true));
  if (!panels.length) return el("p", { class: "note" }, "Nothing to draw: no setting has two methods among these results.");
  const grid = el("div", { class: "panels" });
  const more = el("button", { type: "button", class: "quiet", onclick: () => show() });
  let shown = 0;
  const show = () => {
    for (const [title, members] of panels.slice(shown, shown + PANELS)) {
      grid.append(el("figure", { class: "panel" }, el("figcaption", null, title), draw(members, false)));
    }
    shown = Math.min(shown + PANELS, panels.length);
    more.hidden = shown === panels.length;
    more.textContent = `Show more (${shown} of ${panels.length} comparisons)`;
  };
  show();
  return el("div", null, grid, more);
}

const FRAME = { width: 440, height: 290, marginLeft: 40, marginRight: 112, marginBottom: 40, marginTop: 30 };

// What direct labels need to know of a plot before it is drawn: values from bottom to top, and the pixels between.
function boxOf(rows) {
  const [low, high] = d3.extent(rows.flatMap((row) => [row.mean - (row.std || 0), row.mean + (row.std || 0)]));
  const domain = d3.nice(low === high ? low - 1 : low, low === high ? high + 1 : high, 5);
  return { domain, top: FRAME.marginTop, height: FRAME.height - FRAME.marginTop - FRAME.marginBottom };
}

function frame({ y, ...options }, marks) {
  return Plot.plot({
    ...FRAME,
    grid: true,
    style: { background: "transparent", fontSize: "12px", fontFamily: "inherit", overflow: "visible" },
    ...options,
    y: { label: "accuracy, %", labelArrow: "none", ticks: 5, ...y },
    marks,
  });
}

function tipText(row) {
  const spread = row.low === null || row.low === undefined ? "" : `\n95 % interval ${percent(row.low)} – ${percent(row.high)}`;
  return `${row.label}\nIPC ${row.budget}: ${accuracyText(row)} %${spread}`;
}

function bars(rows, x) {
  return Plot.ruleX(rows.filter((row) => row.std), { x, y1: (row) => row.mean - row.std, y2: (row) => row.mean + row.std, stroke: hue, strokeWidth: 1.5, strokeOpacity: 0.6 });
}

// `probe` asks whether there is anything to draw.
function overBudget(rows, probe) {
  const finite = rows.filter((row) => row.ipc !== null);
  if (probe) return finite.length > 0;
  const budgets = [...new Set(finite.map((row) => row.ipc))].sort((a, b) => a - b);
  const lines = finite.slice().sort((a, b) => a.ipc - b.ipc);
  const whole = rows.filter((row) => row.ipc === null);
  const low = budgets[0];
  const high = budgets[budgets.length - 1];
  const box = boxOf(rows);
  return frame(
    {
      y: { domain: box.domain },
      ariaLabel: "Accuracy over images per class",
      x: { type: "log", label: "images per class", labelArrow: "none", labelAnchor: "center", ticks: budgets, tickFormat: (d) => String(d), domain: low === high ? [low / 2, high * 2] : [low * 0.85, high * 1.15] },
    },
    [
      Plot.ruleY(whole, { y: "mean", stroke: "currentColor", strokeDasharray: "4 4", strokeOpacity: 0.5 }),
      Plot.text(whole, { y: "mean", text: () => "whole data set", frameAnchor: "left", dy: -7, dx: 4, fillOpacity: 0.7, textAnchor: "start" }),
      bars(lines, "ipc"),
      ...lineMarks(lines, "ipc", { strokeWidth: 2 }),
      endLabels(lines, (row) => row.ipc, box),
      Plot.tip(lines, Plot.pointer({ x: "ipc", y: "mean", title: tipText })),
    ],
  );
}

// Room around the values, and at most six round ticks.
function logAxis(values, format) {
  const [low, high] = [Math.min(...values) * 0.8, Math.max(...values) * 1.3];
  const round = (factors) => {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) for (const factor of factors) ticks.push(factor * 10 ** power);
    return ticks.filter((tick) => tick >= low && tick <= high);
  };
  const choices = [[1, 2, 5], [1, 3], [1]].map(round);
  const ticks = choices.find((each) => each.length <= 6) || choices[2].filter((tick, place) => place % 2 === 0);
  return { domain: [low, high], ticks, tickFormat: (value) => format(value) };
}

function overCost(cost) {
  const { title, of } = COSTS[cost];
  return (rows, probe) => {
    const known = rows.filter((row) => of(row) !== null && of(row) > 0 && row.ipc !== null);
    if (probe) return known.length > 0;
    const byCost = known.slice().sort((a, b) => a.ipc - b.ipc);
    const box = boxOf(known);
    return frame(
      {
        y: { domain: box.domain },
        ariaLabel: `Accuracy over ${title}`,
        x: { type: "log", label: title, labelArrow: "none", labelAnchor: "center", ...logAxis(byCost.map(of), cost === "bytes" ? bytes : seconds) },
      },
      [
        bars(byCost, of),
        ...lineMarks(byCost, of, { strokeWidth: 1, strokeOpacity: 0.5 }),
        endLabels(byCost, (row) => row.ipc, box),
        Plot.text(byCost, { x: of, y: "mean", text: (row) => row.budget, dx: 7, textAnchor: "start", fontSize: 10, fillOpacity: 0.7 }),
        Plot.tip(byCost, Plot.pointer({ x: of, y: "mean", title: (row) => `${tipText(row)}\n${cost === "bytes" ? bytes(of(row)) : seconds(of(row))}` })),
      ],
    );
  };
}

// Claims against what was measured for the same cell; on the line, both agree.
function pairPlot() {
  const points = DATA.pairs;
  if (!points.length) return null;
  const tones = new Map([["agrees", "#3d9a3a"], ["differs", "#d93a46"]]);
  const tone = (point) => tones.get(point.verdict) || GREY;
  const plot = frame({ width: 480, height: 420, marginRight: 20, ariaLabel: "Measured over claimed accuracy", x: { label: "claimed, %", labelArrow: "none", nice: true, ticks: 5 }, y: { label: "ours, %", labelArrow: "none", nice: true, ticks: 5 } }, [
    Plot.link([0], { x1: Math.min(...points.map((p) => Math.min(p.claimed, p.ours))), y1: Math.min(...points.map((p) => Math.min(p.claimed, p.ours))), x2: Math.max(...points.map((p) => Math.max(p.claimed, p.ours))), y2: Math.max(...points.map((p) => Math.max(p.claimed, p.ours))), stroke: "currentColor", strokeOpacity: 0.4, strokeDasharray: "4 4" }),
    Plot.ruleX(points, { x: "claimed", y1: (p) => p.ours - p.spread, y2: (p) => p.ours + p.spread, stroke: tone, strokeOpacity: 0.6 }),
    Plot.dot(points, { x: "claimed", y: "ours", fill: tone, r: 4 }),
    Plot.tip(points, Plot.pointer({ x: "claimed", y: "ours", title: (p) => `${p.cell}\n${p.protocol}\n${p.source}: ${percent(p.claimed)}, ours ${percent(p.ours)}\n${p.verdict}` })),
  ]);
  const verdicts = [...new Set(points.map((point) => point.verdict))].sort();
  return el("figure", { class: "panel narrow" }, el("figcaption", null, "Claimed and measured for the same cell; the dashed line is equality"), plot, el("ul", { class: "legend" }, verdicts.map((text) => el("li", null, el("span", { class: "dot", style: { background: tones.get(text) || GREY }, "aria-hidden": "true" }), text))));
}

function curvePlot(record) {
  const points = record.curves.flatMap((curve, repeat) => curve.map(([epoch, value]) => ({ epoch, value: 100 * value, repeat })));
  if (new Set(points.map((point) => point.epoch)).size < 2) return null;
  return frame(
    { height: 260, marginRight: 20, y: { nice: true }, ariaLabel: "Test accuracy over epochs, one line per network", x: { label: "epoch", labelArrow: "none" } },
    [
      Plot.line(points, { x: "epoch", y: "value", z: "repeat", stroke: hue(record.row), strokeWidth: 1.75, strokeOpacity: 0.8 }),
      Plot.dot(points, { x: "epoch", y: "value", fill: hue(record.row), r: 2 }),
      Plot.tip(points, Plot.pointer({ x: "epoch", y: "value", title: (p) => `network ${p.repeat + 1}, epoch ${p.epoch}\n${percent(p.value)} %` })),
    ],
  );
}
