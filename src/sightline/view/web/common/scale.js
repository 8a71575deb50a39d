/**
 * From a weight to [0, 1]. Fixed unless fitted to the view: a colour then means the same weight everywhere.
 * @param {string} name "linear", "sqrt" or "log"
 * @param {number} keys how many keys there are: a log scale reaches a tenth of the uniform weight
 * @param {number | null} most the largest weight in view, to fit; null for a fixed scale
 * @returns {{of: (weight: number) => number, ends: [string, string]}}
 */
export function scaleOf(name, keys, most) {
  const high = most === null || !(most > 0) ? 1 : most;
  const decades = most === null ? Math.ceil(Math.log10(Math.max(10, keys))) + 1 : 3;
  const top = high === 1 ? "1" : high.toPrecision(2);
  if (name === "linear") return { of: (w) => w / high, ends: ["0", top] };
  if (name === "sqrt") return { of: (w) => Math.sqrt(w / high), ends: ["0", top] };
  const of = (w) => (w <= 0 ? 0 : Math.max(0, 1 + Math.log10(w / high) / decades));
  return { of, ends: [`≤ ${(high * 10 ** -decades).toExponential(0)}`, top] };
}
