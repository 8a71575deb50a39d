import { element } from "../common/dom.js";
import { showReal } from "../common/real.js";
import { paintCells } from "../map/paint.js";

const SPOKEN = 16;

/**
 * A vector as a strip of coloured cells: red above 0, blue below; the number under the pointer is its title.
 * @param {number[]} vector
 * @param {number} most the size that has the full colour
 * @param {{rgb: Uint8ClampedArray}} colours diverging
 * @param {string} name what it is
 * @returns {HTMLElement}
 */
export function vectorStrip(vector, most, colours, name) {
  const picture = paintCells(Float32Array.from(vector), vector.length, 1, colours.rgb, (value) => 0.5 + value / (2 * most));
  const strip = element("span", { class: "strip", role: "img", "aria-label": `${name}: ${spokenVector(vector)}`, title: name }, picture);
  strip.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const { left, width } = strip.getBoundingClientRect();
    const at = Math.min(Math.max(Math.floor(((event.clientX - left) / width) * vector.length), 0), vector.length - 1);
    strip.title = `${name}, number ${at}: ${showReal(vector[at])}`;
  });
  return strip;
}

/**
 * A vector in words: all of it where it is short, else its first numbers.
 * @param {number[]} vector
 */
function spokenVector(vector) {
  const spoken = vector.slice(0, SPOKEN).map((value) => showReal(value, 2)).join(", ");
  return vector.length > SPOKEN ? `${spoken} and ${vector.length - SPOKEN} more` : spoken;
}

/** A vector's numbers, all of them, to unfold. @param {number[]} vector */
export function vectorNumbers(vector) {
  const text = vector.map((value) => showReal(value)).join("  ");
  return element("details", { class: "strip-numbers" }, element("summary", {}, "as numbers"), element("p", {}, text));
}
