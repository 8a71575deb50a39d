/**
 * A number as text with a true minus sign: so many decimals, very small ones in powers of ten.
 * @param {number | null | undefined} value null, as JSON has it, is minus infinity here
 * @param {number} [decimals]
 */
export function showReal(value, decimals = 3) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (value === null || value === -Infinity) return "−∞";
  const small = value !== 0 && Math.abs(value) < 0.5 * 10 ** -decimals;
  const text = small ? value.toExponential(1) : value.toFixed(decimals);
  return text.replace(/-/g, "−");
}
