import { button, element } from "../common/dom.js";
import { MapExport } from "../map/export.js";

/** Save what is shown: the map as PNG, SVG or CSV, the pinned row as CSV. */
export class ExportDialog {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {import("../explorer.js").Explorer} explorer
   * @param {any} map
   */
  constructor(dialog, explorer, map) {
    this.dialog = dialog;
    this.explorer = explorer;
    this.files = new MapExport(explorer, map);
    /** @type {AbortController | null} */
    this.running = null;
    this.status = element("p", { role: "status", class: "state" });
    dialog.addEventListener("close", () => this.running?.abort());
  }

  show() {
    const { files } = this;
    const { state } = this.explorer;
    const save = (name, work) => button(name, () => void this.run(name, work));
    const choices = [
      save("Map as PNG", (signal) => files.png(signal)),
      save("Map as SVG", (signal) => files.svg(signal)),
      save("Map as CSV", (signal) => files.csv(signal)),
    ];
    const row = save("Pinned weights as CSV", (signal) => files.rowCsv(signal));
    row.disabled = (state.direction === "to" ? state.query : state.key) === null;
    this.status.textContent = row.disabled ? "Pin a token to export its weights." : "";
    this.dialog.replaceChildren(
      element("h2", { id: "export-title" }, "Export"),
      element("p", {}, "What is in view, exact, with its caveat."),
      element("div", { class: "tools" }, ...choices, row),
      this.status,
      element("form", { method: "dialog" }, element("button", {}, "close")),
    );
    this.dialog.showModal();
  }

  /** @param {string} name @param {(signal: AbortSignal) => Promise<void>} work */
  async run(name, work) {
    this.running?.abort();
    const controller = (this.running = new AbortController());
    this.status.textContent = `${name}: computing exact cells… (closing this stops it)`;
    try {
      await work(controller.signal);
      this.status.textContent = `${name}: saved.`;
    } catch (error) {
      if (!controller.signal.aborted) this.status.textContent = /** @type {Error} */ (error).message;
    }
  }
}
