import { element, showWeight } from "../dom.js";

const HEIGHT = 22;
const PAGE = 512;

/** The tokens of one axis; only those in sight are laid out, and only their pages are asked for. */
export class TokenList {
  /**
   * @param {HTMLElement} box
   * @param {HTMLElement} all as high as all rows together
   * @param {(place: number) => void} onChoose
   */
  constructor(box, all, onChoose) {
    Object.assign(this, { box, all, onChoose });
    this.count = 0;
    /** @type {Map<number, any>} */
    this.pages = new Map();
    this.look = { weights: null, chosen: null, shade: null };
    box.addEventListener("scroll", () => this.draw());
    all.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) onChoose(Number(row.dataset.place));
    });
  }

  /** @param {number} count @param {((from: number, count: number) => Promise<string[]>) | null} load */
  show(count, load) {
    Object.assign(this, { count, load });
    this.pages = new Map();
    this.all.style.height = `${count * HEIGHT}px`;
    this.draw();
  }

  /** The text of a token, "" until its page is here. */
  text(place) {
    const page = Math.floor(place / PAGE);
    if (!this.pages.has(page) && this.load) this.fetch(page);
    return this.pages.get(page)?.tokens?.[place % PAGE] ?? "";
  }

  /** Wait for the text of a token; one that does not come stays "". */
  async ready(place) {
    this.text(place);
    await this.pages.get(Math.floor(place / PAGE))?.coming;
  }

  fetch(page) {
    const { pages } = this;
    /** @type {{tokens: string[] | null, coming: Promise<void> | null}} */
    const entry = { tokens: null, coming: null };
    pages.set(page, entry);
    entry.coming = this.load(page * PAGE, PAGE).then(
      (tokens) => {
        entry.tokens = tokens;
        if (pages === this.pages) this.draw();
      },
      () => void pages.delete(page),
    );
  }

  /** Weights to shade with (NaN: hidden), the chosen place, and colours. */
  paint(look) {
    this.look = look;
    this.draw();
  }

  /** Scroll a place into sight. */
  reveal(place) {
    const top = place * HEIGHT;
    if (top < this.box.scrollTop || top + HEIGHT > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTop = top - this.box.clientHeight / 2;
    }
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - 4);
    const last = Math.min(this.count, first + Math.ceil(this.box.clientHeight / HEIGHT) + 8);
    const { weights, chosen, shade } = this.look;
    const rows = [];
    for (let place = first; place < last; place++) {
      const weight = weights?.[place];
      const told = weight === undefined ? "" : showWeight(Number.isNaN(weight) ? null : weight);
      const row = element("div", { class: place === chosen ? "row chosen" : "row", "data-place": place });
      row.append(element("span", {}, `#${place}`), element("span", {}, this.text(place)), element("span", {}, told));
      row.style.top = `${place * HEIGHT}px`;
      if (weight >= 0 && shade) Object.assign(row.style, { background: shade.css(weight), color: shade.ink(weight) });
      rows.push(row);
    }
    this.all.replaceChildren(...rows);
  }
}
