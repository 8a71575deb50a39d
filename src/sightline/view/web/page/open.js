import { button, element } from "../common/dom.js";

/** A text for the model to read, or a saved trace: typed, or from a file. */
export class OpenDialog {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {import("../explorer.js").Explorer} explorer
   */
  constructor(dialog, explorer) {
    this.dialog = dialog;
    this.explorer = explorer;
    /** @type {(() => Promise<void>) | null} what to do with the first trace of all */
    this.onOpened = null;
    /** @type {AbortController | null} */
    this.running = null;
    this.text = element("textarea", { rows: 6, id: "open-text", placeholder: "The cat sat on the mat." });
    this.pair = element("textarea", { rows: 2, id: "open-pair" });
    this.file = element("input", { type: "file", id: "open-file" });
    this.progress = element("p", { role: "status", class: "state" });
    this.go = button("open", () => void this.start(), { id: "open-go" });
    this.close = button("close", () => this.stop(), { id: "open-close" });
    dialog.addEventListener("cancel", () => this.running?.abort());
    this.file.addEventListener("change", () => void this.takeFile());
  }

  show() {
    const { can } = this.explorer.source;
    const parts = [element("h2", { id: "open-title" }, can.read ? "Open a text or a trace" : "Open a saved trace")];
    if (can.read) {
      parts.push(
        element("label", { class: "block" }, "Text", this.text),
        element("label", { class: "block" }, "Second text (optional): a pair, or the target of a translation", this.pair),
      );
    }
    const kinds = [...(can.read ? ["a text file"] : []), ...(can.upload ? ["a trace saved with trace.save(file)"] : [])];
    parts.push(element("label", { class: "block" }, `Or choose ${kinds.join(", or ")}`, this.file), this.progress);
    parts.push(element("div", { class: "tools" }, ...(can.read ? [this.go] : []), this.close));
    this.progress.textContent = "";
    this.dialog.replaceChildren(...parts);
    this.dialog.showModal();
  }

  /** A text file fills the text; anything else is a trace. */
  async takeFile() {
    const file = this.file.files[0];
    if (!file) return;
    const isText = /\.(txt|md|text|csv|json|py)$/i.test(file.name) || file.type.startsWith("text/");
    if (isText && this.explorer.source.can.read) {
      this.text.value = await file.text();
      return;
    }
    await this.run((how) => this.explorer.source.upload(file, how));
  }

  async start() {
    const [text, pair] = [this.text.value.trim(), this.pair.value.trim()];
    if (!text) return void (this.progress.textContent = "Type a text first, or choose a file.");
    await this.run((how) => this.explorer.source.read({ text, pair }, how));
  }

  stop() {
    if (this.running) this.running.abort();
    else this.dialog.close();
  }

  /** @param {(how: {onProgress: (share: number, what: string) => void, signal: AbortSignal}) => Promise<string>} work */
  async run(work) {
    if (this.running) return;
    const controller = (this.running = new AbortController());
    this.go.disabled = true;
    this.close.textContent = "cancel";
    this.progress.textContent = "starting…";
    const onProgress = (share, what) => (this.progress.textContent = `${what} ${Math.round(100 * share)} %`);
    try {
      const trace = await work({ onProgress, signal: controller.signal });
      this.explorer.traces = await this.explorer.source.list();
      this.dialog.close();
      if (this.onOpened) await this.onOpened();
      else await this.explorer.open({ trace });
      this.explorer.tell(new Set(["traces"]));
    } catch (error) {
      this.progress.textContent = controller.signal.aborted ? "Stopped." : /** @type {Error} */ (error).message;
    } finally {
      this.running = null;
      this.go.disabled = false;
      this.close.textContent = "close";
    }
  }
}
