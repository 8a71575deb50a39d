/**
 * The numbers of a head, in the order in which they are offered.
 * @type {Object<string, {name: string, unit: string, what: string}>}
 */
export const HEAD_NUMBERS = {
  entropy: { name: "entropy", unit: "nats", what: "how widely a row spreads: 0 where one key takes all" },
  max: { name: "largest weight", unit: "", what: "the largest weight of a row" },
  first: { name: "first token (sink)", unit: "", what: "weight on the first key" },
  distance: { name: "distance", unit: "tokens", what: "how far a query looks, weighted" },
  itself: { name: "current token", unit: "", what: "weight of a query on its own place" },
  previous: { name: "previous token", unit: "", what: "weight on the place before the query" },
  effect: { name: "effect of taking it away", unit: "", what: "by how much the answer's number changes without the head" },
  induction: { name: "induction", unit: "", what: "weight on what followed the same token earlier" },
};

/**
 * The name of a number, with its unit.
 * @param {string} name
 */
export function nameOfNumber(name) {
  const known = HEAD_NUMBERS[name];
  if (!known) return name;
  return known.unit ? `${known.name} (${known.unit})` : known.name;
}

/**
 * A head's number as text: distances to a tenth, the rest to hundredths.
 * @param {string} name
 * @param {number | undefined} value
 */
export function showHeadNumber(name, value) {
  if (value === undefined || !Number.isFinite(value)) return "–";
  if (name === "effect") return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(Math.abs(value) < 0.0995 ? 3 : 2)}`;
  return value.toFixed(name === "distance" ? 1 : 2);
}

/**
 * Over what the numbers are means.
 * @param {import("../source/types.js").Numbers} numbers
 */
export function meansOver({ rows, of, sampled }) {
  const count = (value) => value.toLocaleString("en");
  return sampled ? `means over ${count(rows)} sampled rows of ${count(of)}` : `means over all ${count(of)} rows`;
}
