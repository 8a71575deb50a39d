import { button, element } from "../common/dom.js";

/** Nothing is open yet: what this is, and how to begin. */
export class EmptyState {
  /**
   * @param {HTMLElement} box
   * @param {import("../explorer.js").Explorer} explorer
   * @param {import("./open.js").OpenDialog} opener
   */
  constructor(box, explorer, opener) {
    this.box = box;
    this.explorer = explorer;
    this.opener = opener;
  }

  /** @param {() => Promise<void>} begin once there is a trace */
  show(begin) {
    const { can } = this.explorer.source;
    const parts = [
      element("h2", {}, "Nothing is open yet"),
      element(
        "p",
        {},
        "Self-attention lets every token of a text look at every other: its query is compared with their keys, and the " +
          "weights say how much of each value it takes. This page shows those weights, for any head and at any length.",
      ),
    ];
    if (can.read || can.upload) {
      const what = can.read ? (can.upload ? "open a text or a trace" : "open a text") : "open a saved trace";
      parts.push(button(what, () => this.opener.show()));
    }
    parts.push(element("p", { class: "quiet" }, "From Python: with sightline.trace(model) as trace: …, then trace.save(file) and sightline serve file."));
    this.box.replaceChildren(...parts);
    this.box.hidden = false;
    document.getElementById("about").textContent = "";
    document.documentElement.dataset.ready = "true";
    this.opener.onOpened = begin;
  }

  hide() {
    this.box.hidden = true;
    this.opener.onOpened = null;
  }
}
