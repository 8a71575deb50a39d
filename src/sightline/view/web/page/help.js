import { element } from "../common/dom.js";

const KEYS = [
  ["← →", "head before, next head"],
  ["↑ ↓", "layer before, next layer"],
  ["n p", "pin the next token, the one before"],
  ["d", "turn round: what it looks at, what looks at it"],
  ["w", "tokens or words"],
  ["+ − 0", "zoom the map in, out, whole"],
  ["Shift and arrows", "move the map"],
  ["/", "find a token, or go to #place"],
  ["click", "pin a token or a cell"],
  ["Shift and click", "a head of the atlas: compare with it"],
  ["a finger that rests", "the same as Shift and click: a head or a cell to compare with"],
  ["two fingers", "zoom and move the map"],
  ["f", "let the map fill the page, or all views again"],
  ["x", "what if: clicks take away what they hit, or pin again"],
  ["Esc", "unpin; end the comparison"],
  ["?", "this list"],
];

/** The list of keys. */
export class HelpDialog {
  /** @param {HTMLDialogElement} dialog */
  constructor(dialog) {
    this.dialog = dialog;
    const rows = KEYS.flatMap(([key, does]) => [element("dt", {}, key), element("dd", {}, does)]);
    const close = element("form", { method: "dialog" }, element("button", {}, "close"));
    dialog.replaceChildren(element("h2", { id: "keys-title" }, "Keys"), element("dl", {}, ...rows), close);
  }

  get open() {
    return this.dialog.open;
  }

  show() {
    this.dialog.showModal();
  }
}
