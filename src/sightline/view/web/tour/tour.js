import { button, element } from "../common/dom.js";
import { recallTour, rememberTour } from "./memory.js";
import { tourNumbers } from "./numbers.js";
import { findTourPlace, tourSection } from "./place.js";
import { TOUR_STEPS } from "./steps.js";

const KEYS = 8; // the largest weights, which are told
const SWIPE = 60; // pixels

/** A guided tour in seven steps, through one query of one head, with its own numbers. */
export class Tour {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {import("../explorer.js").Explorer} explorer
   * @param {{own: () => void, ownText: string}} after how the reader's own text is read
   */
  constructor(dialog, explorer, after) {
    this.dialog = dialog;
    this.explorer = explorer;
    this.after = after;
    this.at = recallTour()?.at ?? 0;
    this.over = recallTour()?.over ?? true;
    /** @type {() => void} the tour was left, or ended */
    this.onLeave = () => {};
    /** @type {import("./steps.js").TourWalk | null} */
    this.walk = null;
    this.build();
  }

  /** Whether there is a text to follow. */
  get fits() {
    const { subject } = this.explorer;
    return tourSection(subject.about, subject.section.name) !== null;
  }

  get last() {
    return TOUR_STEPS.length - 1;
  }

  build() {
    this.title = element("h2", { id: "tour-title" });
    this.says = element("p", { class: "tour-says" });
    this.told = element("div", { class: "tour-told", "aria-live": "polite", "aria-atomic": "true" }, this.title, this.says);
    this.picture = element("div", { class: "tour-picture" });
    const dots = TOUR_STEPS.map(({ name }, at) => button(String(at + 1), () => this.show(at), { "aria-label": `step ${at + 1}: ${name}`, title: name }));
    this.dots = element("ol", { class: "tour-dots", "aria-label": "steps of the tour" }, ...dots.map((dot) => element("li", {}, dot)));
    this.leaving = button("leave the tour", () => this.dialog.close(), { class: "tour-leave" });
    this.back = button("‹ back", () => this.go(-1), { class: "tour-back" });
    this.next = button("next ›", () => this.go(1), { class: "tour-next" });
    this.body = element("div", { class: "tour-body" }, this.told, this.picture);
    this.dialog.replaceChildren(element("div", { class: "tour-top" }, this.dots, this.leaving), this.body, element("div", { class: "tour-foot" }, this.back, this.next));
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    this.dialog.addEventListener("close", () => this.left());
    this.listenToSwipes();
  }

  /** Begin, or go on where it was left. */
  async open() {
    if (this.at >= this.last) this.at = 0;
    this.walk = null;
    this.dialog.showModal();
    this.title.textContent = "Attention, step by step";
    this.says.replaceChildren("reading…");
    this.picture.replaceChildren();
    this.next.hidden = false;
    try {
      await this.prepare(await findTourPlace(this.explorer));
      this.show(this.at);
    } catch (error) {
      this.says.replaceChildren(`The tour could not start: ${/** @type {Error} */ (error).message}`);
    }
    this.next.focus();
  }

  /** Everything that the steps tell. @param {import("./place.js").TourPlace} place */
  async prepare(place) {
    const { explorer } = this;
    const { about } = explorer.subject;
    const section = about.sections.find(({ name }) => name === place.section);
    const layer = section.layers[place.layer];
    const tokens = explorer.tokensOf(about, section.queries);
    const keys = explorer.tokensOf(about, section.keys);
    const stages = await explorer.source.stages({ trace: about.id, call: layer.call, head: String(place.head) }, place.query, KEYS);
    if (stages.keys.length === 0) throw new Error(`“${tokens.text(place.query)}” may not look at any token; choose another word first.`);
    await Promise.all([tokens.ready(0, layer.n), ...stages.keys.map(({ key }) => keys.ready(key, key + 1))]);
    this.walk = {
      explorer, section, layer, place, stages, tokens,
      numbers: tourNumbers(stages, layer.m),
      query: tokens.text(place.query),
      key: (at) => keys.text(at),
      follow: (query) => void this.follow(query),
      after: { ...this.after, own: () => this.own(), explore: () => this.explore(), again: () => this.show(0) },
    };
  }

  /** Another word. @param {number} query */
  async follow(query) {
    const before = this.walk;
    try {
      await this.prepare({ ...before.place, query });
      this.show(this.at);
    } catch (error) {
      this.says.replaceChildren(/** @type {Error} */ (error).message);
    }
    /** @type {HTMLElement | null} */ (this.picture.querySelector("[aria-pressed=true]"))?.focus();
  }

  /** @param {number} by */
  go(by) {
    this.show(Math.min(Math.max(this.at + by, 0), this.last));
  }

  /** @param {number} at */
  show(at) {
    this.at = at;
    if (!this.walk) return; // it is still read, and begins there
    this.over ||= at === this.last;
    rememberTour({ at, over: this.over });
    const { title, says, picture } = TOUR_STEPS[at];
    const hadFocus = this.dialog.contains(document.activeElement);
    this.title.replaceChildren(element("span", { class: "tour-count" }, `${at + 1} of ${this.last + 1} · `), title);
    this.says.replaceChildren(...says(this.walk));
    this.picture.replaceChildren(...picture(this.walk));
    this.body.scrollTop = 0;
    this.back.disabled = at === 0;
    this.next.hidden = at === this.last;
    [...this.dots.querySelectorAll("button")].forEach((dot, each) => {
      if (each === at) dot.setAttribute("aria-current", "step");
      else dot.removeAttribute("aria-current");
    });
    const lost = !document.activeElement || document.activeElement === document.body || document.activeElement.matches("[hidden], :disabled");
    if (hadFocus && (lost || !this.dialog.contains(document.activeElement))) this.takeFocus();
  }

  /** Focus goes to what leads on. */
  takeFocus() {
    const on = this.next.hidden ? this.picture.querySelector("button") : this.next;
    /** @type {HTMLElement | null} */ (on)?.focus();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 1, PageUp: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.go(step);
  }

  /** A swipe to the left goes on, one to the right back. */
  listenToSwipes() {
    /** @type {{x: number, y: number} | null} */
    let from = null;
    this.dialog.addEventListener("touchstart", ({ touches }) => (from = touches.length === 1 ? { x: touches[0].clientX, y: touches[0].clientY } : null), { passive: true });
    this.dialog.addEventListener("touchend", ({ changedTouches }) => {
      if (!from) return;
      const [dx, dy] = [changedTouches[0].clientX - from.x, changedTouches[0].clientY - from.y];
      from = null;
      if (Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) this.go(dx < 0 ? 1 : -1);
    });
  }

  left() {
    this.picture.replaceChildren();
    this.onLeave();
  }

  /** The reader's own text. */
  own() {
    this.dialog.close();
    this.after.own();
  }

  /** The page, at the place that the tour was about. */
  explore() {
    const { section, layer, head, query } = this.walk.place;
    this.dialog.close();
    void this.explorer.set({ section, layer, head: String(head), query });
  }

  /** It is not wanted. */
  decline() {
    this.over = true;
    rememberTour({ at: this.at, over: true });
    this.onLeave();
  }
}
