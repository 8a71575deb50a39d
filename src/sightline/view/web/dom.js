/**
 * An element with attributes and children; texts become text nodes, never markup.
 * @param {string} tag
 * @param {Object<string, string | number | boolean>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/**
 * The element with this id.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * A weight as text: four digits, small ones in powers of ten.
 * @param {number | null} value
 */
export function showWeight(value) {
  if (value === null) return "hidden";
  return value !== 0 && value < 0.00005 ? value.toExponential(1) : value.toFixed(4);
}

/**
 * A text short enough for a label.
 * @param {string} text
 * @param {number} most
 */
export function clip(text, most) {
  const characters = Array.from(text);
  return characters.length <= most ? text : `${characters.slice(0, most - 1).join("")}…`;
}
