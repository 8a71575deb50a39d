import { element } from "../common/dom.js";
import { showCount, showWeight } from "../common/format.js";
import { hoverOf, pinOf } from "../text/pointing.js";
import { Shader } from "../text/shader.js";
import { shadingScale } from "../text/shading.js";
import { ChipRow } from "./chips.js";
import { besideMedium, mediumCount } from "./medium.js";
import { PictureFigure } from "./picture.js";
import { SoundFigure } from "./sound.js";
import { unitsIn, windowAround } from "./window.js";

const WINDOW = 60; // words beside a sound

/** A picture or a sound whose positions are the keys, shaded by what is selected; words that look at it beside. */
export class MediumFigure {
  /** @param {import("../view.js").View} view */
  constructor(view) {
    this.view = view;
    const { explorer } = view;
    this.queries = new ChipRow("target words: queries", this.host("queries"));
    this.others = new ChipRow("positions beside the medium", this.host("keys"));
    this.place = element("div");
    this.summary = element("p", { class: "quiet medium-summary" });
    this.node = element("div", { class: "medium-figure" }, this.queries.node, this.others.node, this.place, this.summary);
    /** @type {import("../text/shading.js").Shading | null} */
    this.shading = null;
    this.shader = new Shader(view, "medium", (shading) => {
      this.shading = shading;
      this.paint();
    });
    this.loaded = "";
    /** @type {PictureFigure | SoundFigure | null} */
    this.figure = null;
    new ResizeObserver(() => explorer.subject && this.figure?.draw()).observe(this.place);
  }

  /** Pointing at a position: in self-attention it is a query as well as a key. */
  host(side) {
    const { explorer } = this.view;
    const role = () => (explorer.subject.section.isSelf ? "both" : side);
    return {
      onHover: (at) => explorer.hover(at === null ? null : hoverOf(explorer.state, role(), at)),
      onPin: (at) => {
        const { subject, state } = explorer;
        const unit = explorer.range(side === "queries" ? subject.queries : subject.keys, at);
        explorer.pin(pinOf(state, role(), unit, at));
      },
    };
  }

  /** Show the medium of the trace. */
  async open() {
    const { about } = this.view.explorer.subject;
    if (this.loaded === about.id) return;
    this.loaded = about.id;
    this.figure = null;
    this.place.replaceChildren();
    await this.view.load(async (signal) => {
      const data = await this.view.explorer.source.medium(about.id);
      if (signal.aborted) return;
      const { medium } = about;
      const host = this.host("keys");
      this.figure =
        medium.kind === "image"
          ? new PictureFigure(medium, /** @type {ImageData} */ (data), host)
          : new SoundFigure(medium, /** @type {Float32Array} */ (data), host);
      this.place.replaceChildren(this.figure.node);
      this.paint();
    }, "the medium", "medium-data");
    if (this.figure === null) this.loaded = "";
  }

  follow() {
    const { explorer } = this.view;
    const { subject, state } = explorer;
    void this.open();
    const { at, direction } = explorer.selection();
    const tokens = direction === "to" ? subject.queries : subject.keys;
    this.shader.want(subject, { show: state.show, direction, range: at === null ? null : explorer.range(tokens, at) });
    void this.words();
    this.paint();
  }

  /** The words that look, and positions beside the medium. */
  async words() {
    const { explorer } = this.view;
    const { subject, state } = explorer;
    const { queries, keys, section, about } = subject;
    const beside = besideMedium(about.medium, keys.side.count).map((at) => ({ from: at, to: at + 1 }));
    this.others.node.hidden = beside.length === 0;
    this.queries.node.hidden = section.isSelf;
    const around = windowAround(state.query ?? 0, queries.side.count, WINDOW);
    await Promise.all([queries.ready(around.from, section.isSelf ? around.from : around.to), ...beside.map(({ from, to }) => keys.ready(from, to))]);
    if (subject !== explorer.subject) return;
    this.others.show(keys, beside);
    if (!section.isSelf) this.queries.show(queries, unitsIn(around, (at) => explorer.range(queries, at)));
    this.paint();
  }

  paint() {
    const { figure, shading } = this;
    const { explorer } = this.view;
    const { subject, state, hovered, colours } = explorer;
    const scale = shadingScale(shading, explorer);
    const { about, section } = subject;
    if (!figure || !about.medium) return;
    const onMedium = shading !== null && (section.isSelf || shading.side === "keys");
    const { first } = about.medium;
    const end = first + mediumCount(about.medium);
    const source = state.direction === "to" ? "query" : "key";
    const sideOf = section.isSelf ? source : "key";
    const pointed = section.isSelf ? (hovered?.[source === "query" ? "key" : "query"] ?? hovered?.[source] ?? null) : (hovered?.key ?? null);
    const chosen = section.isSelf ? explorer.selection().at : state.key;
    figure.paint({ values: onMedium ? shading.values.subarray(first, end) : null, scale, colours, hovered: pointed, chosen, pinned: state[sideOf] });
    const how = shading?.how ?? "sum";
    this.others.paint({ values: onMedium ? shading.values : null, how, scale, colours });
    this.others.mark({ chosen: section.isSelf ? chosen : pointed, pinned: state[sideOf] });
    this.queries.paint({ values: shading?.side === "queries" ? shading.values : null, how, scale, colours });
    this.queries.mark({ chosen: hovered ? hovered.query : state.query, pinned: state.query });
    this.tell(onMedium ? shading : null, first, end, pointed);
  }

  /** In words, of one line: how much of the weight is on the medium, and at the position pointed at. */
  tell(shading, first, end, pointed) {
    if (!shading) return void (this.summary.textContent = " ");
    const { about } = this.view.explorer.subject;
    let [inside, all] = [0, 0];
    shading.values.forEach((value, at) => {
      if (Number.isNaN(value)) return;
      all += value;
      if (at >= first && at < end) inside += value;
    });
    const parts = shading.side === "keys" && all > 0 ? [`${showCount(end - first)} ${about.medium.kind === "image" ? "patches" : "moments"} get ${showWeight(inside)} of ${showWeight(all)}`] : [];
    if (pointed !== null && pointed < shading.values.length) parts.push(`#${pointed} ${showWeight(shading.values[pointed])}`);
    this.summary.textContent = parts.join(" · ") || " ";
  }
}
