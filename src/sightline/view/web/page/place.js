import { button, choice, element } from "../common/dom.js";
import { clip, showCount } from "../common/format.js";

/** The controls of what is shown: trace, section, layer and head in the header; words and search in the menu. */
export class PlaceControls {
  /**
   * @param {HTMLElement} box
   * @param {import("./menu.js").Menu} menu
   * @param {import("../explorer.js").Explorer} explorer
   */
  constructor(box, menu, explorer) {
    this.menu = menu;
    this.explorer = explorer;
    const set = (name, read = (value) => value) => (value) => void explorer.set({ [name]: read(value) });
    this.trace = choice("trace", [], (trace) => void explorer.open({ trace }), { id: "trace" });
    this.section = choice("section", [], set("section"), { id: "section" });
    this.layer = choice("layer", [], set("layer", Number), { id: "layer" });
    this.head = choice("head", [], set("head"), { id: "head" });
    this.words = element("input", { type: "checkbox", id: "words" });
    this.words.addEventListener("change", () => void explorer.set({ words: this.words.checked }));
    this.search = element("input", { type: "search", id: "wanted", placeholder: "find a token or #place", "aria-label": "find a token, or go to a place: #12" });
    const form = element("form", { id: "search", role: "search" }, this.search, button("find", () => void this.find(), { id: "find" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.find();
    });
    this.found = element("span", { class: "quiet", role: "status", id: "found" });
    for (const { label } of [this.trace, this.section, this.layer, this.head]) {
      // An option says what it is: "layer 2". The name is for those who hear it.
      label.replaceChildren(element("span", { class: "visually-hidden" }, label.firstChild), label.lastChild);
      box.append(label);
    }
    menu.controls.append(form, this.found, element("label", {}, this.words, " merge subwords into words"));
  }

  /** Let something to find be typed. */
  startSearch() {
    this.menu.open();
    this.search.focus();
  }

  /** @param {Set<string>} changed */
  update(changed) {
    if (changed.has("traces") || changed.has("subject")) this.fill();
    if (changed.has("words")) this.words.checked = this.explorer.state.words;
  }

  fill() {
    const { traces, subject } = this.explorer;
    const { about, section, layer } = subject;
    options(this.trace, traces.map(({ id, title }) => [id, title]), about.id);
    options(this.section, about.sections.map(({ name }) => [name, name]), section.name);
    options(this.layer, section.layers.map((each, at) => [String(at), `layer ${at}${each.verified ? "" : " (unverified)"}`]), String(subject.layerAt));
    const heads = Array.from({ length: layer.heads }, (_, head) => [String(head), `head ${head}`]);
    options(this.head, [...heads, ["mean", "mean"], ["max", "max"]], subject.head);
    this.trace.label.hidden = traces.length < 2;
    this.section.label.hidden = about.sections.length < 2;
    const size = `${showCount(layer.n)} × ${showCount(layer.m)}`;
    const box = document.getElementById("about");
    box.hidden = traces.length > 1;
    box.textContent = clip(about.model, 400);
    box.title = [about.model, about.texts.join(" ⁄ ")].filter(Boolean).join(" · ").slice(0, 2000);
    this.menu.about.textContent = [about.title, about.model, `${size} weights in each head`, layer.name].filter(Boolean).join(" · ");
    document.getElementById("caveat").textContent = about.caveat;
    document.getElementById("made").textContent = `Sightline ${about.version} · exact weights, computed from queries and keys when they are looked at`;
    document.title = `${about.title} · Sightline`;
  }

  /** Go to the next token that contains what is typed, or to #place. */
  async find() {
    const { explorer } = this;
    const { subject, state } = explorer;
    const text = this.search.value.trim();
    if (!text) return;
    const [name, side] = state.direction === "to" ? ["query", subject.section.queries] : ["key", subject.section.keys];
    const place = /^#?\d+$/.test(text) ? Number(text.replace("#", "")) : null;
    try {
      const from = ((state[name] ?? -1) + 1) % side.count;
      const places = place !== null ? [place] : await explorer.source.find(subject.about.id, side.id, text, from);
      const at = places.find((each) => each < side.count);
      this.found.textContent = at === undefined ? (place === null ? `there is no “${text}” here` : `places go from 0 to ${side.count - 1}`) : "";
      if (at !== undefined) explorer.set({ [name]: at });
    } catch (error) {
      this.found.textContent = /** @type {Error} */ (error).message;
    }
  }
}

/** Fill a list, leaving it alone where it has these options already. */
function options({ select }, wanted, value) {
  const key = JSON.stringify(wanted);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...wanted.map(([each, name]) => element("option", { value: each }, name)));
  }
  select.value = value;
}
