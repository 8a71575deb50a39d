/** @type {Float32Array | null} every float16 as float32; made when first asked for */
let halves = null;

/**
 * One IEEE 754 half-precision number.
 * @param {number} bits
 * @returns {number}
 */
function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * Float16 values, as their bits, to float32 by a table of all 65,536.
 * @param {Uint16Array} bits
 * @returns {Float32Array}
 */
export function decodeFloat16(bits) {
  if (halves === null) halves = Float32Array.from({ length: 65536 }, (_, i) => halfToNumber(i));
  const out = new Float32Array(bits.length);
  for (let i = 0; i < out.length; i++) out[i] = halves[bits[i]];
  return out;
}
