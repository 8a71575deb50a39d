import { TokenCache } from "./source/tokens.js";

/** One head of one trace, with the tokens of both its sides: what a view is about. */
export class Subject {
  /**
   * @param {import("./source/types.js").Source} source
   * @param {import("./source/types.js").About} about
   * @param {import("./state.js").Other} wanted what the trace does not have is replaced by the nearest that it has
   * @param {(about: any, side: any) => TokenCache} tokensOf
   */
  constructor(source, about, wanted, tokensOf) {
    this.source = source;
    this.about = about;
    this.section = about.sections.find((each) => each.name === wanted.section) ?? about.sections[0];
    this.layerAt = Math.min(wanted.layer, this.section.layers.length - 1);
    this.layer = this.section.layers[this.layerAt];
    this.head = /^m/.test(wanted.head) ? wanted.head : String(Math.min(Number(wanted.head), this.layer.heads - 1));
    this.queries = tokensOf(about, this.section.queries);
    this.keys = tokensOf(about, this.section.keys);
  }

  /** @returns {import("./source/types.js").Place} */
  get place() {
    return { trace: this.about.id, call: this.layer.call, head: this.head };
  }

  /** Whether it is one head rather than a mean or maximum over heads. */
  get single() {
    return !/^m/.test(this.head);
  }

  /** What to call it. */
  get name() {
    return `layer ${this.layerAt} ${this.single ? `head ${this.head}` : `${this.head} over heads`}`;
  }

  /** @returns {import("./state.js").Other} */
  get wanted() {
    return { trace: this.about.id, section: this.section.name, layer: this.layerAt, head: this.head };
  }
}
