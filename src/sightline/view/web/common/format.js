/**
 * A weight as text: four digits, small ones in powers of ten.
 * @param {number | null} value
 */
export function showWeight(value) {
  if (value === null || Number.isNaN(value)) return "hidden";
  return value !== 0 && Math.abs(value) < 0.00005 ? value.toExponential(1) : value.toFixed(4);
}

/**
 * A count with its thousands apart.
 * @param {number} value
 */
export function showCount(value) {
  return value.toLocaleString("en");
}

/**
 * A token and its place: “cat” #2, or #2 alone while its text is not here.
 * @param {string} text
 * @param {number} at
 */
export function showToken(text, at) {
  return text ? `“${text}” #${at}` : `#${at}`;
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

/**
 * The next of 1, 2, 5, 10, 20, 50, ...
 * @param {number} least
 */
export function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least) ?? power * 10;
}
