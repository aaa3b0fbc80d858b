// Plots (Observable Plot): accuracy over budget and over cost, one panel per data set, protocol and network.

const PALETTE = ["#4269d0", "#e08a00", "#e5484d", "#2f9e8f", "#3ca951", "#d6569b", "#8f5bd6", "#4f9bd9", "#9c6b4e"];
const GREY = "#8a93a0";
const PANELS = 6;
const MOST_LINES = 12;

const COSTS = {
  seconds: { title: "seconds to distil", of: (row) => row.seconds },
  bytes: { title: "bytes stored (images and labels)", of: (row) => row.bytes },
};

// A look per line, the same in all panels that are shown together: colours first, then dashes; the baseline is grey.
let looks = new Map();

function assignLooks(rows) {
  const weight = new Map();
  for (const row of rows) if (row.method !== "full") weight.set(row.label, (weight.get(row.label) || 0) + (row.kind === "measured" ? 1000 : 1));
  looks = new Map();
  let place = 0;
  for (const [label] of [...weight].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))) {
    if (label === DATA.baseline) looks.set(label, { colour: GREY, dash: null });
    else {
      looks.set(label, { colour: PALETTE[place % PALETTE.length], dash: [null, "5 3", "2 3"][Math.min(2, Math.floor(place / PALETTE.length))] });
      place += 1;
    }
  }
}

const look = (row) => looks.get(row.label) || { colour: GREY, dash: null };
const hue = (row) => look(row).colour;

// Lines with dashes are marks of their own: a mark has one kind of dash.
function lineMarks(rows, x, options) {
  const marks = [];
  for (const dash of [null, "5 3", "2 3"]) {
    const mine = rows.filter((row) => look(row).dash === dash);
    if (!mine.length) continue;
    marks.push(Plot.line(mine, { x, y: "mean", z: "label", stroke: hue, strokeDasharray: dash || "none", ...options }));
    marks.push(Plot.dot(mine, { x, y: "mean", fill: dash ? "var(--paper)" : hue, stroke: hue, strokeWidth: 1.75, r: 3.25 }));
  }
  return marks;
}

function panelsOf(rows) {
  const panels = new Map();
  for (const row of rows) {
    if (row.mean === null || METRICS[row.metric]) continue;
    const names = [row.dataset, row.protocol, row.settings, row.network, row.kind === "claimed" ? `claimed, ${row.source}` : row.preset];
    const title = names.filter(Boolean).join(" · ");
    if (!panels.has(title)) panels.set(title, []);
    panels.get(title).push(row);
  }
  return [...panels.entries()].sort((a, b) => new Set(b[1].map((r) => r.ipc)).size - new Set(a[1].map((r) => r.ipc)).size || b[1].length - a[1].length);
}

function plotPage(rows, draw) {
  assignLooks(rows);
  const panels = panelsOf(rows).filter(([, members]) => draw(members, true));
  if (!panels.length) return el("p", { class: "note" }, "Nothing to draw for these filters.");
  const grid = el("div", { class: "panels" });
  const more = el("button", { type: "button", class: "quiet", onclick: () => show() });
  let shown = 0;
  const show = () => {
    for (const [title, members] of panels.slice(shown, shown + PANELS)) {
      grid.append(el("figure", { class: "panel" }, el("figcaption", null, title), draw(members, false), legend(members)));
    }
    shown = Math.min(shown + PANELS, panels.length);
    more.hidden = shown === panels.length;
    more.textContent = `Show more (${shown} of ${panels.length} comparisons)`;
  };
  show();
  return el("div", null, grid, more);
}

function legend(rows) {
  const seen = new Map();
  for (const row of rows) if (row.method !== "full" && !seen.has(row.label)) seen.set(row.label, look(row));
  const items = [...seen].sort(([a], [b]) => (a < b ? -1 : 1)).slice(0, MOST_LINES);
  const rest = seen.size - items.length;
  return el(
    "ul",
    { class: "legend" },
    items.map(([label, { colour, dash }]) => el("li", null, el("span", { class: dash ? "dot hollow" : "dot", style: { background: colour, "border-color": colour }, "aria-hidden": "true" }), label)),
    rest > 0 && el("li", null, `and ${rest} more`),
  );
}

function frame(options, marks) {
  return Plot.plot({
    width: 400,
    height: 270,
    marginLeft: 40,
    marginBottom: 40,
    marginTop: 30,
    grid: true,
    style: { background: "transparent", fontSize: "12px", fontFamily: "inherit", overflow: "visible" },
    y: { label: "accuracy, %", nice: true, labelArrow: "none", ticks: 5, ...options.y },
    ...options,
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
  return frame(
    {
      ariaLabel: "Accuracy over images per class",
      x: { type: "log", label: "images per class", labelArrow: "none", ticks: budgets, tickFormat: (d) => String(d), domain: low === high ? [low / 2, high * 2] : [low * 0.85, high * 1.15] },
    },
    [
      Plot.ruleY(whole, { y: "mean", stroke: "currentColor", strokeDasharray: "4 4", strokeOpacity: 0.5 }),
      Plot.text(whole, { y: "mean", text: () => "whole data set", frameAnchor: "right", dy: -7, fillOpacity: 0.7, textAnchor: "end" }),
      bars(lines, "ipc"),
      ...lineMarks(lines, "ipc", { strokeWidth: 2 }),
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
    return frame(
      {
        ariaLabel: `Accuracy over ${title}`,
        x: { type: "log", label: title, labelArrow: "none", ...logAxis(byCost.map(of), cost === "bytes" ? bytes : seconds) },
      },
      [
        bars(byCost, of),
        ...lineMarks(byCost, of, { strokeWidth: 1, strokeOpacity: 0.5 }),
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
  const tones = new Map([["reproduced", "#3ca951"], ["higher", "#4269d0"], ["lower", "#e5484d"]]);
  const tone = (point) => tones.get(point.verdict) || GREY;
  const plot = frame({ width: 480, height: 420, ariaLabel: "Measured over claimed accuracy", x: { label: "claimed, %", labelArrow: "none", nice: true, ticks: 5 }, y: { label: "ours, %", labelArrow: "none", nice: true, ticks: 5 } }, [
    Plot.link([0], { x1: Math.min(...points.map((p) => Math.min(p.claimed, p.ours))), y1: Math.min(...points.map((p) => Math.min(p.claimed, p.ours))), x2: Math.max(...points.map((p) => Math.max(p.claimed, p.ours))), y2: Math.max(...points.map((p) => Math.max(p.claimed, p.ours))), stroke: "currentColor", strokeOpacity: 0.4, strokeDasharray: "4 4" }),
    Plot.ruleX(points, { x: "claimed", y1: (p) => p.ours - p.spread, y2: (p) => p.ours + p.spread, stroke: tone, strokeOpacity: 0.6 }),
    Plot.dot(points, { x: "claimed", y: "ours", fill: tone, r: 4 }),
    Plot.tip(points, Plot.pointer({ x: "claimed", y: "ours", title: (p) => `${p.cell}\n${p.protocol}\n${p.source}: ${percent(p.claimed)}, ours ${percent(p.ours)}\n${p.verdict}` })),
  ]);
  const verdicts = [...new Set(points.map((point) => point.verdict))].sort();
  return el("figure", { class: "panel narrow" }, el("figcaption", null, "Claimed and measured for the same cell; the dashed line is equality"), plot, el("ul", { class: "legend" }, verdicts.map((text) => el("li", null, el("span", { class: "dot", style: { background: tones.get(text) || GREY }, "aria-hidden": "true" }), text))));
}

function curvePlot(record) {
  assignLooks([record.row]);
  const points = record.curves.flatMap((curve, repeat) => curve.map(([epoch, value]) => ({ epoch, value: 100 * value, repeat })));
  if (new Set(points.map((point) => point.epoch)).size < 2) return null;
  return frame(
    { height: 260, ariaLabel: "Test accuracy over epochs, one line per network", x: { label: "epoch", labelArrow: "none" } },
    [
      Plot.line(points, { x: "epoch", y: "value", z: "repeat", stroke: hue(record.row), strokeWidth: 1.75, strokeOpacity: 0.8 }),
      Plot.dot(points, { x: "epoch", y: "value", fill: hue(record.row), r: 2 }),
      Plot.tip(points, Plot.pointer({ x: "epoch", y: "value", title: (p) => `network ${p.repeat + 1}, epoch ${p.epoch}\n${percent(p.value)} %` })),
    ],
  );
}
