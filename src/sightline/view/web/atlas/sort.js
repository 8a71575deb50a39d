/**
 * One head of a section, with its numbers.
 * @typedef {{layer: number, head: number, label: string | null, numbers: Object<string, number>}} HeadRow
 */

/**
 * Every head of the layers, in their order.
 * @param {import("../source/types.js").Numbers[]} layers
 * @returns {HeadRow[]}
 */
export function rowsOfHeads(layers) {
  return layers.flatMap(({ heads, labels }, layer) => {
    const names = Object.keys(heads);
    return heads[names[0]].map((_, head) => {
      const numbers = Object.fromEntries(names.map((name) => [name, heads[name][head]]));
      return { layer, head, label: labels?.[head] ?? null, numbers };
    });
  });
}

/**
 * Heads by one number; those alike stay in the order of layers, those without it come last either way.
 * @param {HeadRow[]} rows
 * @param {string} name a number's, or "layer" or "label"
 * @param {boolean} descending
 * @returns {HeadRow[]}
 */
export function sortHeads(rows, name, descending) {
  const inOrder = (a, b) => a.layer - b.layer || a.head - b.head;
  if (name === "layer") return [...rows].sort((a, b) => (descending ? inOrder(b, a) : inOrder(a, b)));
  const value = (row) => (name === "label" ? row.label : row.numbers[name]) ?? null;
  const missing = (each) => each === null || Number.isNaN(each);
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (missing(x) || missing(y)) return Number(missing(x)) - Number(missing(y)) || inOrder(a, b);
    const apart = typeof x === "string" ? x.localeCompare(String(y)) : x - Number(y);
    return (descending ? -apart : apart) || inOrder(a, b);
  });
}
