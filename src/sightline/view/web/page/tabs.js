import { button } from "../common/dom.js";

const NAMES = { map: "Map", text: "Text", atlas: "Atlas", cross: "Cross", steps: "Steps", lens: "Lens", whatif: "What if" };

/** One view that fills the page, or all of them; on a narrow screen these tabs reach each. */
export class Tabs {
  /**
   * @param {HTMLElement} box
   * @param {import("../view.js").View[]} views
   * @param {import("../explorer.js").Explorer} explorer
   */
  constructor(box, views, explorer) {
    this.box = box;
    this.views = views;
    this.explorer = explorer;
    const tab = (id, name) => button(name, () => void explorer.set({ full: id || null }), { "data-view": id });
    box.replaceChildren(tab("", "All"), ...views.map(({ id }) => tab(id, NAMES[id])));
  }

  update() {
    const { full } = this.explorer.state;
    const known = this.views.some((view) => view.id === full && !view.hidden) ? full : null;
    document.body.dataset.full = known ?? "";
    for (const tab of this.box.querySelectorAll("button")) {
      const view = this.views.find(({ id }) => id === tab.dataset.view);
      tab.hidden = view?.hidden ?? false;
      tab.setAttribute("aria-pressed", String(tab.dataset.view === (known ?? "")));
    }
    for (const view of this.views) view.expand.setAttribute("aria-pressed", String(view.id === known));
  }
}
