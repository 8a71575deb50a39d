/**
 * A linear layer: y = x Wᵀ + b.
 * @typedef {object} Linear
 * @property {Float32Array} weight [O,I], row after row
 * @property {Float32Array | null} bias [O]
 * @property {number} inputs I
 * @property {number} outputs O
 */

const TOGETHER = 4; // rows of x that share a pass over the weights: the beams of a search

/**
 * x [R,I] → [R,O]. Sums are kept in float64.
 * @param {Float32Array} x
 * @param {number} rows R
 * @param {Linear} layer
 * @returns {Float32Array}
 */
export function product(x, rows, layer) {
  const out = new Float32Array(rows * layer.outputs);
  let row = 0;
  for (; rows - row > 1; row += TOGETHER) severalRows(x, row, Math.min(TOGETHER, rows - row), layer, out);
  if (row < rows) oneRow(x, row, layer, out);
  if (layer.bias) addToRows(out, layer.bias);
  return out;
}

/** Four rows of x and two of the weights: eight sums, none of which waits for another. */
function severalRows(x, first, count, { weight, inputs, outputs }, out) {
  const side = sideBySide(x, first, count, inputs);
  const [at0, at1, at2, at3] = Array.from({ length: TOGETHER }, (_, r) => (first + Math.min(r, count - 1)) * outputs);
  for (let o = 0; o < outputs; o += 2) {
    const a = o * inputs;
    const b = o + 1 < outputs ? a + inputs : a; // behind the last row there is none: it is taken twice
    let a0 = 0;
    let a1 = 0;
    let a2 = 0;
    let a3 = 0;
    let b0 = 0;
    let b1 = 0;
    let b2 = 0;
    let b3 = 0;
    for (let i = 0, u = 0; i < inputs; i++, u += TOGETHER) {
      const k = weight[a + i];
      const l = weight[b + i];
      const x0 = side[u];
      const x1 = side[u + 1];
      const x2 = side[u + 2];
      const x3 = side[u + 3];
      a0 += x0 * k;
      a1 += x1 * k;
      a2 += x2 * k;
      a3 += x3 * k;
      b0 += x0 * l;
      b1 += x1 * l;
      b2 += x2 * l;
      b3 += x3 * l;
    }
    const next = o + 1 < outputs ? o + 1 : o;
    out[at3 + o] = a3;
    out[at3 + next] = b3;
    out[at2 + o] = a2;
    out[at2 + next] = b2;
    out[at1 + o] = a1;
    out[at1 + next] = b1;
    out[at0 + o] = a0;
    out[at0 + next] = b0;
  }
}

/** [I,4]: rows of x side by side in float64; the last one again where there are fewer than four. */
function sideBySide(x, first, count, inputs) {
  const side = new Float64Array(inputs * TOGETHER);
  for (let r = 0; r < TOGETHER; r++) {
    const from = (first + Math.min(r, count - 1)) * inputs;
    for (let i = 0; i < inputs; i++) side[i * TOGETHER + r] = x[from + i];
  }
  return side;
}

/** One row of x and four of the weights. */
function oneRow(x, row, { weight, inputs, outputs }, out) {
  const vector = Float64Array.from(x.subarray(row * inputs, (row + 1) * inputs));
  const last = (outputs - 1) * inputs;
  for (let o = 0; o < outputs; o += 4) {
    const a = o * inputs;
    const b = Math.min(a + inputs, last);
    const c = Math.min(b + inputs, last);
    const d = Math.min(c + inputs, last);
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    for (let i = 0; i < inputs; i++) {
      const v = vector[i];
      s0 += v * weight[a + i];
      s1 += v * weight[b + i];
      s2 += v * weight[c + i];
      s3 += v * weight[d + i];
    }
    const at = row * outputs + o;
    const left = outputs - o;
    if (left > 3) out[at + 3] = s3;
    if (left > 2) out[at + 2] = s2;
    if (left > 1) out[at + 1] = s1;
    out[at] = s0;
  }
}

/** @param {Float32Array} x [R,C], changed in place @param {Float32Array} vector [C] */
export function addToRows(x, vector) {
  for (let at = 0; at < x.length; at += vector.length) {
    for (let c = 0; c < vector.length; c++) x[at + c] += vector[c];
  }
}

/** @param {Float32Array} x changed in place @param {Float32Array} y of the same size */
export function addInPlace(x, y) {
  for (let at = 0; at < x.length; at++) x[at] += y[at];
  return x;
}
