// Numbers as people read them.

function percent(value) {
  return value === null || value === undefined ? "–" : value.toFixed(1);
}

function signed(value) {
  return value === null || value === undefined ? "–" : (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(1);
}

function accuracyText(row) {
  if (row.text) return row.text.replace(" ± ", " ± ");
  return row.std === null ? percent(row.mean) : `${percent(row.mean)} ± ${percent(row.std)}`;
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Number(value.toPrecision(2))} s`;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

function bytes(value) {
  return value === null || value === undefined ? "–" : d3.format(".3~s")(value).replace(/[a-zA-Z]?$/, " $&B");
}

function count(number, word, words) {
  return `${number.toLocaleString("en")} ${number === 1 ? word : words || word + "s"}`;
}

const METRICS = {
  top1_avg_over_aug: "mean over augmentations",
  top1_avg_transfer: "mean over networks",
  hlr: "HLR, points",
  ior: "IOR, points",
  ...Object.fromEntries([1, 5, 10].flatMap((rank) => [
    [`tr@${rank}`, `text recall at ${rank}`],
    [`ir@${rank}`, `image recall at ${rank}`],
  ])),
};

const WHOSE = {
  own: "the method’s own claim",
  "own-quoted": "own claim, read in another paper",
  ablation: "a variant in its method’s own paper",
  other: "in another paper’s table",
  baseline: "baseline",
  full: "whole data set",
  benchmark: "independent benchmark",
  "third-party": "run again by a third party",
};
