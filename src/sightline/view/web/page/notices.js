import { element } from "../common/dom.js";

/** What the user ought to know about the trace: tokens that were dropped, calls that could not be verified. */
export class Notices {
  /**
   * @param {HTMLElement} box
   * @param {import("../explorer.js").Explorer} explorer
   */
  constructor(box, explorer) {
    this.box = box;
    this.explorer = explorer;
  }

  /** @param {Set<string>} changed */
  update(changed) {
    if (!changed.has("subject")) return;
    const { about, layer } = this.explorer.subject;
    const notices = [...about.notices, ...(layer.verified ? [] : [`Not verified: ${layer.reason}`])];
    const shown = notices.slice(0, 2).map((text) => element("p", { class: "notice" }, text));
    const rest = notices.slice(2);
    if (rest.length) {
      const more = element("summary", {}, `${rest.length} more`);
      shown.push(element("details", { class: "notice" }, more, ...rest.map((text) => element("p", {}, text))));
    }
    this.box.replaceChildren(...shown);
  }
}
