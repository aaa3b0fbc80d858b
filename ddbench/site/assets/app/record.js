// One record: what was measured, how to run it again, what it looks like, and every setting.

function recordView(key) {
  const record = BY_KEY.get(key);
  if (!record) return missing("record", key);
  const { row } = record;
  const data = called(record.data.name);
  const budget = record.ipc === null ? "the whole training set" : count(record.ipc, "image per class", "images per class");
  const labels = record.protocol.labels === "unknown" ? null : `${record.protocol.labels} labels`;
  const values = record.values.map((value) => 100 * value);
  const mean = d3.mean(values);
  const std = values.length < 2 ? null : Math.sqrt(d3.mean(values, (value) => (value - mean) ** 2));
  const others = row.records.filter((other) => other !== record);
  const sheet = sheetOf(record);
  const curves = curvePlot(record);
  const prompts = promptList(record);
  const card = (name, value, note) => el("div", { class: "stat" }, el("dt", null, name), el("dd", null, value, note && el("span", { class: "sub" }, note)));
  return el(
    "article",
    { class: "record" },
    el("nav", { class: "crumbs", "aria-label": "Path" }, el("a", { href: "#/results" }, "Results"), " / ", el("a", { href: `#/results?${new URLSearchParams({ dataset: record.data.name })}` }, data), " / ", link(["method", record.method.name], called(record.method.name))),
    el("h1", null, `${titleOf(record)} on ${data}`),
    el("p", { class: "lead" }, [budget, `${called(record.protocol.published)} protocol`, called(record.network), labels, `seed ${record.seed}`].filter(Boolean).join(" · ")),
    signTexts(row).map((text) => el("p", { class: "note" }, text)),
    record.protocol.extension && el("p", { class: "note warn" }, `Extension, never to be compared with published cells: ${record.protocol.extension}`),
    el(
      "dl",
      { class: "stats" },
      card("Accuracy", `${accuracyText({ mean, std })} %`, `${selectionText(record.selection)}; ${count(values.length, "network")}: ${values.map(percent).join(", ")}`),
      card(`Gain over ${called(DATA.baseline)}`, row.gain === null ? "–" : `${signed(row.gain)} points`, row.records.length > 1 ? "all seeds together" : null),
      card("Time to distil", seconds(record.costs.distil), `${reusedText(record)}${seconds(record.costs.evaluate)} to evaluate`),
      card("Stored", bytes(record.costs.images + record.costs.labels), `${bytes(record.costs.images)} of images, ${bytes(record.costs.labels)} of labels`),
    ),
    others.length > 0 && el("p", { class: "seeds" }, "Other seeds: ", others.map((other, i) => [i ? ", " : "", link(["record", other.key], `seed ${other.seed}`)])),
    section("Run it again", commandBlock(record.command), el("p", { class: "tools" }, el("button", { type: "button", class: "quiet", id: "save-record", onclick: () => download(`${record.path.split("/").pop()}`, "application/json", JSON.stringify(plainRecord(record), null, 1)) }, "Record, JSON")), record.environment.command && record.environment.command !== record.command && el("p", { class: "sub" }, "Made by: ", el("code", null, record.environment.command))),
    el(
      "div",
      { class: "columns" },
      sheet && section("Distilled images", sheetFigure(record, { most: 48 })),
      curves && section("Test accuracy in training", el("figure", { class: "panel bare" }, curves)),
    ),
    !sheet && el("p", { class: "note" }, record.ipc === null ? "The whole training set has no contact sheet." : "No contact sheet is kept for this set. The command above makes the same images again."),
    prompts && section("Text prototypes", el("p", { class: "sub" }, "Each image with the text it was made from."), prompts),
    record.shrunk.length > 0 && section("Paper → used here", scroller("What was made smaller than in the paper", shrunkTable(record.shrunk))),
    el(
      "div",
      { class: "columns" },
      el("div", { class: "stack" }, section("Method", facts("Options of the method", optionPairs(record.method))), section("Data and identity", facts("Data set, seeds and digests", identityPairs(record)))),
      el("div", { class: "stack" }, section("Protocol", protocolFacts(record.protocol.settings), el("p", null, el("a", { href: `#/results?${new URLSearchParams({ digest: record.protocol.digest, kind: "measured" })}` }, `Everything measured under this protocol (${record.protocol.digest.slice(0, 8)})`))), section("Cost and machine", facts("Seconds by step, memory, software", costPairs(record)))),
    ),
    Object.keys(record.extra).length > 0 && el("details", { class: "block more" }, el("summary", null, "What the method reports"), facts("Figures stored with the distilled set", Object.entries(record.extra))),
  );
}

// Steps that another run had finished already are not in the time of this one.
function reusedText(record) {
  const end = record.steps.findIndex(([name]) => name === "distilled");
  const total = record.steps.slice(0, Math.max(end, 0)).reduce((sum, [, time]) => sum + time, 0);
  return total > record.costs.distil ? `some steps were there already, ${seconds(total)} in all; ` : "";
}

function selectionText(selection) {
  if (selection === "last") return "after the last epoch";
  return selection.startsWith("best") ? `${selection}: the epoch is chosen on the test split` : selection;
}

function optionPairs(plugin) {
  const pairs = Object.entries(plugin.options).map(([name, value]) => [name, name in plugin.explicit ? el("span", null, valueText(value), el("span", { class: "tag" }, "set")) : value]);
  for (const [name, value] of Object.entries(plugin.other || {})) pairs.push([name, value]);
  return pairs.length ? pairs : [["options", "this method has none"]];
}

// How a teacher came about is part of the protocol, but not what most readers look for.
function protocolFacts(settings) {
  const entries = Object.entries(settings);
  const deep = entries.filter(([name]) => name.split(".").length > 2);
  return [
    facts("Settings of the protocol", entries.filter((entry) => !deep.includes(entry))),
    deep.length > 0 && el("details", { class: "deep" }, el("summary", null, `${count(deep.length, "setting")} of its parts`), facts("Nested settings", deep)),
  ];
}

function identityPairs(record) {
  const data = record.data;
  return [
    ["data set", data.name],
    ["fingerprint", data.fingerprint],
    ["images", `${data.image_size}×${data.image_size}×${data.channels}, ${data.num_classes} classes, ${data.train_images} training and ${data.test_images} test images`],
    ["origin", data.origin],
    ["preset", record.preset],
    ["distillation seed", record.seed],
    ["evaluation seed", record.evaluationSeed],
    ["evaluator", `${record.evaluator.name}, version ${record.evaluator.version}`],
    ["method version", record.method.version],
    ["distilled set", `${record.set.count} images, digest ${record.set.digest}`],
    ["protocol digest", record.protocol.digest],
    ["record", `key ${record.key}, digest ${record.digest}`],
    ["file", `results/${record.path}`],
  ];
}

function costPairs(record) {
  const { environment } = record;
  const packages = environment.packages && typeof environment.packages === "object" ? Object.entries(environment.packages).map(([name, version]) => `${name} ${version}`).join(", ") : null;
  const own = Object.entries(environment).filter(([name, value]) => !["command", "packages"].includes(name) && value !== "");
  return [
    ...record.steps.map(([name, time]) => [name, seconds(time)]),
    ["peak memory", record.costs.peak === null ? "not measured" : bytes(record.costs.peak)],
    ...own,
    ...(packages ? [["packages", packages]] : []),
  ];
}

function shrunkTable(shrunk) {
  const rows = shrunk.map(([name, paper, used]) => el("tr", null, el("th", { scope: "row" }, name), el("td", null, valueText(paper)), el("td", null, valueText(used))));
  const head = ["Option", "Paper", "Used"].map((text) => el("th", { scope: "col" }, text));
  return el("table", { class: "facts three" }, el("caption", { class: "unseen" }, "Options below the paper’s scale"), el("thead", null, el("tr", null, head)), el("tbody", null, rows));
}

function commandBlock(text) {
  const code = el("code", null, text);
  const button = el("button", { type: "button", class: "quiet copy", onclick: copy }, "Copy");
  function copy() {
    const done = () => {
      button.textContent = "Copied";
      announce("The command was copied.");
      setTimeout(() => (button.textContent = "Copy"), 2000);
    };
    const select = () => getSelection().selectAllChildren(code);
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, select);
    else select();
  }
  return el("div", { class: "command" }, el("pre", { tabindex: "0", "aria-label": "Command" }, code), button);
}
