import { canShade, shadingOf, shownOf } from "./shading.js";

const REST = 30; // milliseconds that the pointer rests before anything is asked for
const KEPT = 32; // shadings, so that leaving a token asks for nothing

/**
 * Keeps a view shaded by what is selected: the old shading stays until the new one is here, requests that nobody
 * waits for any more are cancelled.
 */
export class Shader {
  /**
   * @param {import("../view.js").View} view whose loading state shows it
   * @param {string} slot
   * @param {(shading: import("./shading.js").Shading | null) => void} onShading null: nothing to shade by
   */
  constructor(view, slot, onShading) {
    this.view = view;
    this.slot = slot;
    this.onShading = onShading;
    /** @type {Map<string, import("./shading.js").Shading>} */
    this.kept = new Map();
    this.wanted = "";
    this.timer = 0;
  }

  /**
   * @param {import("../subject.js").Subject} subject
   * @param {import("./shading.js").ShadingWish} wish
   */
  want(subject, wish) {
    const asked = { ...wish, show: shownOf(subject, wish.show) };
    if (asked.show === "received") Object.assign(asked, { range: null, direction: "to" });
    const key = JSON.stringify([subject.place, subject.section.name, asked]);
    if (key === this.wanted) return;
    this.wanted = key;
    this.stop();
    const known = this.kept.get(key);
    if (known || !canShade(subject, asked)) return this.onShading(known ?? null);
    this.timer = window.setTimeout(() => void this.ask(subject, asked, key), REST);
  }

  /** Let go of what is on its way. */
  stop() {
    clearTimeout(this.timer);
    this.view.loading.get(this.slot)?.abort();
    if (this.view.status.querySelector("button")) this.view.say("");
  }

  /** Nothing is wanted now. */
  forget() {
    this.stop();
    this.wanted = "";
  }

  ask(subject, asked, key) {
    const what = asked.show === "weights" && asked.range ? "weights" : asked.range ? asked.show : "what each key receives";
    const load = async (signal, onProgress) => {
      const shading = await shadingOf(subject, asked, signal, onProgress);
      if (signal.aborted) return;
      this.kept.set(key, shading);
      if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
      if (key === this.wanted) this.onShading(shading);
    };
    return this.view.load(load, what, this.slot);
  }
}
