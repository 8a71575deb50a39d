import { button, element } from "../common/dom.js";
import { View } from "../view.js";
import { AlignmentFigure } from "./alignment.js";
import { MediumFigure } from "./medium-figure.js";
import { isOfMedium } from "./medium.js";

/** Two sentences with ribbons between aligned words, or the picture or the sound that is looked at. */
class SightlineCross extends View {
  build() {
    this.alignment = new AlignmentFigure(this);
    this.medium = new MediumFigure(this);
    this.elsewhere = element("p", { class: "quiet" });
    this.body.append(this.elsewhere, this.alignment.node, this.medium.node);
  }

  /** What the section has to show. @returns {"medium" | "alignment" | null} */
  get kind() {
    const { about, section } = this.explorer.subject;
    return kindOf(section, about.medium);
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    if (has("subject")) this.choose();
    if (this.hidden) return;
    const { kind } = this;
    if (has("hover", "colours", "scale", "ceiling")) {
      if (kind === "alignment") this.alignment.paint();
      if (kind === "medium") this.medium.follow();
    }
    if (has("subject", "query", "key", "direction", "words", "show", "tokens", "full")) {
      if (kind === "alignment") this.alignment.follow();
      if (kind === "medium") this.medium.follow();
    }
    if (kind === "alignment" && has("query", "key")) this.alignment.paint();
  }

  /** What there is to show, or where. */
  choose() {
    const { explorer, kind } = this;
    const { subject } = explorer;
    const { about } = subject;
    const others = about.sections.filter((section) => kindOf(section, about.medium) !== null);
    this.hidden = others.length === 0;
    this.alignment.node.hidden = kind !== "alignment";
    this.medium.node.hidden = kind !== "medium";
    this.elsewhere.hidden = kind !== null;
    if (kind !== "medium") this.medium.shader.forget();
    const name = { image: "Picture", sound: "Sound" }[about.medium?.kind ?? ""] ?? "Alignment";
    this.setTitle(kind === null ? name : `${kind === "medium" ? name : "Alignment"} · ${subject.name}`);
    const offer = (section) => {
      const what = section.isSelf ? `show ${section.name}` : `show cross-attention: ${section.name}`;
      return button(what, () => void explorer.set({ section: section.name, layer: Math.min(explorer.state.layer, section.layers.length - 1) }));
    };
    this.elsewhere.replaceChildren(`${subject.section.name} has nothing to show here. `, ...others.flatMap((section) => [offer(section), " "]));
  }
}

/**
 * @param {import("../source/types.js").SectionInfo} section
 * @param {import("../source/types.js").About["medium"]} medium
 */
function kindOf(section, medium) {
  if (isOfMedium(section, medium)) return "medium";
  return section.isSelf ? null : "alignment";
}

customElements.define("sightline-cross", SightlineCross);
