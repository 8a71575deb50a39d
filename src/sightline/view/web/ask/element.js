import { button, element } from "../common/dom.js";

const VERBS = { translation: "translate", summary: "summarize", continuation: "go on", label: "judge" };
const KEPT_STATE = ["section", "layer", "head", "direction", "words", "show", "scale", "ceiling", "reduce", "sort", "number", "full"];

/**
 * Where a sentence is typed and the model runs over it: what comes out grows while it is written, and becomes a trace
 * that all views show. Earlier runs stay, and the last two can be compared.
 */
export class AskField {
  /**
   * @param {HTMLElement} box
   * @param {import("../explorer.js").Explorer} explorer
   */
  connect(box, explorer) {
    this.explorer = explorer;
    this.source = /** @type {import("../source/live.js").LiveSource} */ (/** @type {any} */ (explorer.source));
    const { task } = this.source.described;
    /** @type {AbortController | null} */
    this.running = null;
    /** @type {string | null} the trace before the one that came last */
    this.before = null;
    this.text = element("textarea", { id: "ask-text", rows: 1, spellcheck: false, autocomplete: "off", placeholder: "Type a sentence", "aria-label": "a text for the model to read", "aria-describedby": "ask-where" });
    this.go = element("button", { type: "submit", id: "ask-go" }, VERBS[task.name] ?? "run");
    this.stop = button("cancel", () => this.running?.abort(), { id: "ask-cancel" });
    this.compare = button("compare with the run before", () => this.toggle(), { id: "ask-compare" });
    this.stop.hidden = this.compare.hidden = true;
    this.status = element("p", { role: "status", class: "ask-status", id: "ask-status" });
    const where = element("p", { class: "quiet", id: "ask-where" }, "The model runs in this page: nothing that you type leaves it.");
    const form = element("form", { id: "ask-form" }, this.text, this.go, this.stop);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.run();
    });
    this.text.addEventListener("keydown", (event) => this.pressed(event));
    this.text.addEventListener("input", () => this.fit());
    window.addEventListener("resize", () => this.fit());
    box.replaceChildren(form, element("div", { class: "ask-line" }, this.status, this.compare, where));
    box.hidden = false;
    // The first text should wait neither for the weights nor for the browser's compiler.
    setTimeout(() => void this.source.warm().catch((error) => this.say(error.message, true)), 0);
  }

  /** @param {Set<string>} changed */
  update(changed) {
    if (changed.has("versus")) this.compare.setAttribute("aria-pressed", String(this.explorer.state.versus !== null));
    if (!changed.has("subject")) return;
    const { about } = this.explorer.subject;
    if (about.id === this.shown) return;
    this.shown = about.id;
    if (!this.running && document.activeElement !== this.text) this.text.value = about.texts[0] ?? "";
    this.fit();
  }

  /** Enter runs, Shift and Enter begins a line. @param {KeyboardEvent} event */
  pressed(event) {
    if (event.key === "Escape" && this.running) this.running.abort();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void this.run();
  }

  /** As high as what is typed. */
  fit() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }

  async run() {
    const text = this.text.value;
    if (!text.trim()) return this.say("Type a word first.", true);
    this.running?.abort();
    const controller = (this.running = new AbortController());
    const { signal } = controller;
    this.busy(true);
    this.say("");
    const slow = setTimeout(() => this.say("reading…"), 300);
    try {
      const { trace, output } = await this.source.run({ text, signal, onToken: (told) => this.growing(text, told.text) });
      await this.show(trace);
      this.say(output.notices.join(". "));
    } catch (error) {
      if (this.running === controller) this.say(signal.aborted ? "Stopped." : /** @type {Error} */ (error).message, !signal.aborted);
    } finally {
      clearTimeout(slow);
      if (this.running === controller) {
        this.running = null;
        this.busy(false);
        this.grown();
      }
    }
  }

  /** What is written so far, in the place of the answer. @param {string} read @param {string} text */
  growing(read, text) {
    if (this.status.textContent === "reading…") this.say("");
    const { name } = this.source.described.task;
    this.explorer.writing = { texts: [read], output: { kind: "text", name: `${name}, being written`, text, given: false, choices: [] } };
    this.explorer.tell(new Set(["output"]));
  }

  grown() {
    if (this.explorer.writing === null) return;
    this.explorer.writing = null;
    this.explorer.tell(new Set(["output"]));
  }

  /** The new trace, in the section and head that are shown. @param {string} trace */
  async show(trace) {
    const { explorer } = this;
    const before = explorer.state.trace;
    const kept = Object.fromEntries(KEPT_STATE.map((name) => [name, explorer.state[name]]));
    if (kept.show === "relevance") kept.show = "weights";
    explorer.traces = await this.source.list();
    explorer.writing = null;
    const { start } = await explorer.about(trace);
    const query = kept.section === start.section ? start.query : null;
    await explorer.open({ ...kept, query, trace });
    explorer.tell(new Set(["traces", "output"]));
    this.before = before === trace ? null : before;
    this.compare.hidden = this.before === null;
  }

  /** The same head of the run before beside this one, or no more. */
  toggle() {
    const { state, traces } = this.explorer;
    if (state.versus !== null) return void this.explorer.set({ versus: null });
    if (!traces.some(({ id }) => id === this.before)) return this.say("The run before is no longer kept.", true);
    const { section, layer, head } = state;
    this.explorer.set({ versus: { trace: this.before, section, layer, head } });
  }

  /** @param {boolean} is */
  busy(is) {
    this.stop.hidden = !is;
    this.text.setAttribute("aria-busy", String(is));
  }

  /** @param {string} text @param {boolean} [wrong] */
  say(text, wrong = false) {
    this.status.textContent = text;
    this.status.classList.toggle("wrong", wrong);
  }
}
