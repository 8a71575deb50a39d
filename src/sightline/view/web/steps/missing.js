import { element } from "../common/dom.js";

/**
 * What cannot be shown without values, and what would help.
 * @param {string} what
 * @returns {HTMLElement}
 */
export function withoutValues(what) {
  const text = `${what} needs the values, and they are not here: a long text's page leaves them out. Save the trace and open it with sightline serve to see it.`;
  return element("p", { class: "state" }, text);
}
