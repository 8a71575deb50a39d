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
 * A labelled list to choose from.
 * @param {string} label
 * @param {[string, string][]} options value and name
 * @param {(value: string) => void} onChange
 * @param {Object<string, string>} [attributes] of the select
 * @returns {{label: HTMLLabelElement, select: HTMLSelectElement}}
 */
export function choice(label, options, onChange, attributes = {}) {
  const select = element("select", attributes, ...options.map(([value, name]) => element("option", { value }, name)));
  select.addEventListener("change", () => onChange(select.value));
  return { label: element("label", {}, `${label} `, select), select };
}

/**
 * A button with a name.
 * @param {string} text
 * @param {() => void} onClick
 * @param {Object<string, string>} [attributes]
 * @returns {HTMLButtonElement}
 */
export function button(text, onClick, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", onClick);
  return made;
}
