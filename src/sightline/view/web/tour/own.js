import { element } from "../common/dom.js";

/**
 * How the reader tries a text of their own: in the page's own field, by the server's model, or on the command line.
 * @param {import("../explorer.js").Explorer} explorer
 * @param {{field: HTMLElement, opener: {show: () => void}, dialog: HTMLDialogElement}} parts
 * @returns {{own: () => void, ownText: string}}
 */
export function ownText(explorer, { field, opener, dialog }) {
  const { can } = explorer.source;
  /** @type {() => HTMLElement | null} */
  const typed = () => field.querySelector("textarea, input");
  const ownText = "try your own sentence";
  const own = () => {
    const box = typed();
    if (box && !field.hidden) {
      box.scrollIntoView({ block: "center" });
      return box.focus();
    }
    if (can.read) return opener.show();
    showCommands(dialog);
  };
  return { own, ownText };
}

/** The commands that make a page of another text. @param {HTMLDialogElement} dialog */
function showCommands(dialog) {
  const line = (text) => element("pre", { class: "tour-command", tabindex: 0 }, text);
  dialog.replaceChildren(
    element("h2", { id: "own-title" }, "Your own sentence"),
    element("p", {}, "This page carries one text. A page of another is made by"),
    line('sightline look "Your own sentence." --html page.html'),
    element("p", {}, "and a page with a model that reads whatever is typed by"),
    line("sightline serve"),
    element("form", { method: "dialog" }, element("button", {}, "close")),
  );
  dialog.showModal();
}
