const PAGE = 4096;

/** The tokens of one side, fetched page by page as they are needed. */
export class TokenCache {
  /**
   * @param {import("./types.js").Source} source
   * @param {string} trace
   * @param {import("./types.js").SideInfo} side
   * @param {() => void} onChange
   */
  constructor(source, trace, side, onChange) {
    this.source = source;
    this.trace = trace;
    this.side = side;
    this.onChange = onChange;
    /** @type {Map<number, {coming: Promise<void>, tokens: import("./types.js").Tokens | null}>} */
    this.pages = new Map();
  }

  /** The text of a token; "" until its page is here. @param {number} at */
  text(at) {
    if (this.side.places) return String(at);
    return this.page(at).tokens?.texts[at % PAGE] ?? "";
  }

  /** Whether the tokenizer added it. @param {number} at */
  special(at) {
    return !this.side.places && (this.page(at).tokens?.special[at % PAGE] ?? false);
  }

  /** Whether no blank precedes it. @param {number} at */
  glued(at) {
    return !this.side.places && (this.page(at).tokens?.glued[at % PAGE] ?? false);
  }

  /** The tokens of the word that a token belongs to, as far as they are here. @param {number} at */
  word(at) {
    const number = (each) => (this.side.places ? each : this.page(each).tokens?.words[each % PAGE]);
    const own = number(at);
    let [from, to] = [at, at + 1];
    if (own === undefined) return { from, to };
    while (from > 0 && number(from - 1) === own) from -= 1;
    while (to < this.side.count && number(to) === own) to += 1;
    return { from, to };
  }

  /** Wait for tokens; those that do not come stay "". @param {number} from @param {number} to */
  async ready(from, to) {
    if (this.side.places) return;
    const waits = [];
    for (let page = Math.floor(from / PAGE); page * PAGE < Math.min(to, this.side.count); page++) waits.push(this.page(page * PAGE).coming);
    await Promise.all(waits);
  }

  /** @param {number} at */
  page(at) {
    const number = Math.floor(at / PAGE);
    let entry = this.pages.get(number);
    if (!entry) {
      entry = { coming: Promise.resolve(), tokens: null };
      this.pages.set(number, entry);
      const page = entry;
      page.coming = this.source.tokens(this.trace, this.side.id, number * PAGE, PAGE).then(
        (tokens) => {
          page.tokens = tokens;
          this.onChange();
        },
        () => void this.pages.delete(number),
      );
    }
    return entry;
  }
}
