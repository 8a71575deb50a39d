import { button, element } from "../common/dom.js";

/** What is not needed all the time, behind one button: a panel of ordinary controls, so that Tab goes through them. */
export class Menu {
  /**
   * @param {HTMLButtonElement} opener
   * @param {HTMLElement} panel
   */
  constructor(opener, panel) {
    this.opener = opener;
    this.panel = panel;
    this.about = element("p", { class: "quiet menu-about" });
    this.controls = element("div", { class: "menu-controls" });
    this.actions = element("div", { class: "menu-actions", "data-own-arrows": true });
    panel.replaceChildren(this.about, this.controls, this.actions);
    opener.hidden = false;
    opener.replaceChildren(element("span", { "aria-hidden": "true" }, "☰ "), element("span", { class: "menu-word" }, "menu"));
    opener.addEventListener("click", () => (panel.hidden ? this.open() : this.close()));
    panel.addEventListener("keydown", (event) => this.key(event));
    opener.addEventListener("keydown", (event) => event.key === "Escape" && !panel.hidden && this.key(event));
    document.addEventListener("pointerdown", (event) => !this.has(event.target) && this.close());
    document.addEventListener("focusin", (event) => !this.has(event.target) && this.close());
  }

  /** @param {EventTarget | null} target */
  has(target) {
    return target instanceof Node && (this.panel.contains(target) || this.opener.contains(target));
  }

  open() {
    this.panel.hidden = false;
    this.opener.setAttribute("aria-expanded", "true");
  }

  close() {
    if (this.panel.hidden) return;
    this.panel.hidden = true;
    this.opener.setAttribute("aria-expanded", "false");
  }

  /**
   * Another thing that can be done; the menu closes, unless it is to stay.
   * @param {string} text
   * @param {() => void} onClick
   * @param {{stay?: boolean, id?: string, first?: boolean}} how
   */
  add(text, onClick, { stay = false, id = "", first = false } = {}) {
    const made = button(text, () => {
      if (!stay) {
        this.opener.focus();
        this.close();
      }
      onClick();
    }, id ? { id } : {});
    if (first) this.actions.prepend(made);
    else this.actions.append(made);
    return made;
  }

  /** Escape leaves; arrows go through what can be done. @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      this.close();
      this.opener.focus();
    }
    const all = [...this.actions.querySelectorAll("button")];
    const at = all.indexOf(/** @type {HTMLButtonElement} */ (event.target));
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (at < 0 || !step) return;
    event.preventDefault();
    all[(at + step + all.length) % all.length].focus();
  }
}
