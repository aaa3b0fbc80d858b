// One set of filters for table and plots, kept in the address so that a choice can be linked to.

const FACETS = [
  { name: "dataset", title: "Data set", of: (row) => row.dataset, text: called },
  { name: "ipc", title: "IPC", of: (row) => row.budget, order: (text) => (text === "full" ? Infinity : Number(text)) },
  { name: "network", title: "Network", of: (row) => row.network, text: called },
  { name: "protocol", title: "Protocol", of: (row) => row.published || row.protocol, text: called },
  { name: "labels", title: "Labels", of: (row) => row.labels },
  { name: "kind", title: "Source", of: (row) => row.kind },
];
const START = { kind: ROWS.length ? "measured" : "claimed" };

class Filters {
  constructor(changed) {
    this.changed = changed;
    this.state = {};
    this.selects = new Map();
    const fields = FACETS.map((facet) => {
      const select = el("select", { id: `filter-${facet.name}`, onchange: () => this.set(facet.name, select.value) });
      this.selects.set(facet.name, select);
      return el("div", { class: "field" }, el("label", { for: select.id }, facet.title), select);
    });
    this.input = el("input", {
      type: "search",
      id: "filter-q",
      placeholder: "method, option, source …",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.set("q", this.input.value),
    });
    const search = el("div", { class: "field wide" }, el("label", { for: "filter-q" }, "Search"), this.input);
    // Folded on a phone, where six choices would fill the screen.
    const facets = el("details", { class: "facets" }, el("summary", null, "Filters"), el("div", { class: "fields" }, fields));
    const wide = matchMedia("(min-width: 821px)");
    const unfold = () => (facets.open = wide.matches);
    wide.addEventListener("change", unfold);
    unfold();
    this.chips = el("div", { class: "chips" });
    this.element = el(
      "form",
      { class: "filters", role: "search", "aria-label": "Filter results", onsubmit: (event) => event.preventDefault() },
      el("div", { class: "fields" }, search, facets),
      this.chips,
    );
  }

  // Take over the choices of an address; what it does not name is as at the start.
  read(params) {
    this.state = {};
    for (const name of [...FACETS.map((facet) => facet.name), "q", "method", "digest"]) {
      const value = params.get(name) ?? START[name] ?? "";
      if (value && value !== "all") this.state[name] = value;
    }
    this.input.value = this.state.q || "";
    this.refresh();
  }

  write() {
    const params = new URLSearchParams();
    for (const [name, value] of Object.entries(this.state)) if (value && value !== START[name]) params.set(name, value);
    for (const name of Object.keys(START)) if (!this.state[name]) params.set(name, "all");
    return params;
  }

  set(name, value) {
    if (value) this.state[name] = value;
    else delete this.state[name];
    this.refresh();
    this.changed();
  }

  reset() {
    this.state = { ...START };
    this.input.value = "";
    this.refresh();
    this.changed();
  }

  // A test for rows; `without` leaves one facet out, to count what choosing in it would give.
  test(without) {
    const wanted = FACETS.filter((facet) => facet.name !== without && this.state[facet.name]);
    const words = (this.state.q || "").toLowerCase().split(/\s+/).filter(Boolean);
    const { method, digest } = this.state;
    return (row) =>
      wanted.every((facet) => facet.of(row) === this.state[facet.name]) &&
      (!method || row.method === method) &&
      (!digest || row.digest === digest) &&
      words.every((word) => row.search.includes(word));
  }

  refresh() {
    for (const facet of FACETS) {
      const counts = new Map();
      const fits = this.test(facet.name);
      let total = 0;
      for (const row of EVERYTHING) {
        const value = facet.of(row);
        if (!counts.has(value)) counts.set(value, 0);
        if (fits(row)) {
          counts.set(value, counts.get(value) + 1);
          total += 1;
        }
      }
      const chosen = this.state[facet.name] || "";
      const text = facet.text || ((value) => value);
      const order = facet.order || ((value) => text(value).toLowerCase());
      const values = [...counts.keys()].sort((a, b) => (order(a) < order(b) ? -1 : order(a) > order(b) ? 1 : 0));
      const options = values
        .filter((value) => counts.get(value) || value === chosen)
        .map((value) => el("option", { value, selected: value === chosen }, value === chosen ? text(value) : `${text(value)} (${counts.get(value).toLocaleString("en")})`));
      const all = el("option", { value: "", selected: !chosen }, chosen ? `all (${total.toLocaleString("en")})` : "all");
      const select = this.selects.get(facet.name);
      select.replaceChildren(all, ...options);
      select.classList.toggle("set", Boolean(chosen) && chosen !== START[facet.name]);
    }
    const chips = [];
    const chip = (name, text) =>
      el("button", { type: "button", class: "chip", onclick: () => this.set(name, "") }, text, el("span", { "aria-hidden": "true" }, " ×"), el("span", { class: "unseen" }, " (remove)"));
    if (this.state.method) chips.push(chip("method", `method ${called(this.state.method)}`));
    if (this.state.digest) chips.push(chip("digest", `protocol ${this.state.digest.slice(0, 8)}`));
    if (this.write().toString()) chips.push(el("button", { type: "button", class: "chip quiet", onclick: () => this.reset() }, "Reset filters"));
    this.chips.replaceChildren(...chips);
  }
}
