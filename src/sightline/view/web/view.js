import { element } from "./common/dom.js";

/**
 * A view of what the explorer shows: a custom element with a title, a toolbar, a body, and states of its own for
 * loading and errors. Subclasses fill `body` in `build()` and redraw in `update(changed)`.
 */
export class View extends HTMLElement {
  /** @param {import("./explorer.js").Explorer} explorer */
  connect(explorer) {
    this.explorer = explorer;
    /** @type {Map<string, AbortController>} what is being loaded now */
    this.loading = new Map();
    this.heading = element("h2");
    this.tools = element("div", { class: "tools" });
    this.expand = element("button", { type: "button", class: "expand", title: "let this view fill the page" }, "⤢");
    this.expand.addEventListener("click", () => explorer.set({ full: explorer.state.full === this.id ? null : this.id }));
    this.status = element("p", { class: "state", role: "status", hidden: true });
    this.body = element("div", { class: "body" });
    this.classList.add("view");
    this.replaceChildren(element("div", { class: "bar-row" }, this.heading, this.expand), this.tools, this.status, this.body);
    this.build();
    explorer.views.push(this);
  }

  /** Fill the body, once. */
  build() {}

  /** @param {Set<string>} _changed names of the state, and "subject", "compared", "hover", "colours", "tokens" */
  update(_changed) {}

  /** @param {string} text */
  setTitle(text) {
    this.heading.textContent = text;
    this.expand.setAttribute("aria-label", `let ${text} fill the page`);
    this.expand.setAttribute("aria-pressed", String(this.explorer.state.full === this.id));
  }

  /**
   * Load something for this view: an earlier load is cancelled; while it takes longer than a moment
   * the view says so and can cancel it; an error becomes a sentence. Nothing is returned when it was cancelled.
   * @template T
   * @param {(signal: AbortSignal, onProgress: (share: number, what?: string) => void) => Promise<T>} load
   * @param {string} what
   * @param {string} [slot] loads of different slots run side by side
   * @returns {Promise<T | undefined>}
   */
  async load(load, what, slot = "") {
    this.loading.get(slot)?.abort();
    const controller = new AbortController();
    this.loading.set(slot, controller);
    const { signal } = controller;
    let share = NaN;
    const show = () => {
      if (signal.aborted) return;
      const cancel = element("button", { type: "button" }, "cancel");
      cancel.addEventListener("click", () => {
        controller.abort();
        this.say(`${what}: stopped.`, () => void this.load(load, what, slot));
      });
      const done = Number.isFinite(share) ? ` ${Math.round(100 * share)} %` : "…";
      this.status.replaceChildren(`${what}${done} `, cancel);
      this.status.hidden = false;
    };
    const timer = setTimeout(show, 300);
    try {
      const loaded = await load(signal, (now) => {
        share = now;
        if (!this.status.hidden) show();
      });
      if (signal.aborted) return undefined;
      this.status.hidden = true;
      return loaded;
    } catch (error) {
      if (!signal.aborted) this.say(/** @type {Error} */ (error).message);
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * A sentence in place of what can't be shown; `again` offers to try once more.
   * @param {string} text empty for nothing to say
   * @param {(() => void) | null} [again]
   */
  say(text, again = null) {
    this.status.replaceChildren(text);
    if (again) {
      const button = element("button", { type: "button" }, "try again");
      button.addEventListener("click", () => {
        this.status.hidden = true;
        again();
      });
      this.status.append(" ", button);
    }
    this.status.hidden = !text;
  }
}
