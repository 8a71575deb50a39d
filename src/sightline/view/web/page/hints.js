import { button, element } from "../common/dom.js";

const KEY = "sightline-hints";
const STEPS = [
  ["text", "Hover a word: the colours show what it looks at. Click to keep it."],
  ["atlas", "Choose another head here: each looks at the text in its own way."],
  ["steps", "Here is every step of the computation, with the real numbers."],
];

/** Three hints at the first visit, which go away for good. */
export class Hints {
  constructor() {
    this.at = 0;
    /** @type {HTMLElement | undefined} */
    this.box = undefined;
  }

  /** The hint that is next, unless all were seen before. */
  show() {
    if (seen()) return;
    const [id, text] = STEPS[this.at];
    this.box?.remove();
    const last = this.at === STEPS.length - 1;
    const next = button(last ? "done" : "next", () => (last ? this.end() : this.next()));
    const skip = button("no more hints", () => this.end());
    this.box = element("aside", { class: "hint", role: "note" }, `${this.at + 1} of ${STEPS.length}: ${text} `, next, " ", skip);
    document.getElementById(id).prepend(this.box);
  }

  next() {
    this.at += 1;
    this.show();
  }

  end() {
    this.box?.remove();
    try {
      localStorage.setItem(KEY, "seen");
    } catch {
      // a page without storage shows none
    }
  }
}

function seen() {
  try {
    return localStorage.getItem(KEY) === "seen";
  } catch {
    // In a notebook's frame nothing is remembered: they would come back with every cell.
    return true;
  }
}
