import { button, element } from "../common/dom.js";
import { recallTour } from "./memory.js";
import { TOUR_STEPS } from "./steps.js";

/** The tour is offered until it was ended or declined; the menu has it always. */
export class TourOffer {
  /**
   * @param {HTMLElement} box
   * @param {HTMLButtonElement} item the menu's
   * @param {import("./tour.js").Tour} tour
   */
  constructor(box, item, tour) {
    this.box = box;
    this.item = item;
    this.tour = tour;
    tour.onLeave = () => this.show();
  }

  /** @param {Set<string>} changed */
  update(changed) {
    if (changed.has("subject")) this.show();
  }

  show() {
    const { tour } = this;
    const { at, over, last } = tour;
    const begun = at > 0 && at < last;
    const where = begun ? `, at step ${at + 1} of ${TOUR_STEPS.length}` : "";
    this.item.hidden = !tour.fits;
    this.item.textContent = begun ? `go on with the tour${where}` : "guided tour";
    // Where nothing is remembered, in a notebook's frame, it would come back with every cell.
    const offered = tour.fits && !over && recallTour() !== null;
    if (!offered) return this.box.replaceChildren();
    const text = begun ? "You left the tour. " : "New to attention? ";
    const go = button(begun ? `go on${where}` : "a tour in seven short steps", () => void tour.open(), { class: "tour-start" });
    const no = button("no, thanks", () => tour.decline());
    this.box.replaceChildren(element("aside", { class: "tour-offer", "aria-label": "guided tour" }, element("span", {}, text), go, no));
  }
}
