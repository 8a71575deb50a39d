/**
 * One attention head, all that its weights follow from. N queries, M keys, D their width.
 * @typedef {object} Head
 * @property {number} n queries
 * @property {number} m keys
 * @property {number} width D
 * @property {number} scale
 * @property {number | null} softcap
 * @property {Float32Array} query [N,D]
 * @property {Float32Array} key [M,D]
 * @property {Float32Array} lse [N], with sinks included
 * @property {Int32Array | null} ranges [N,R,2] half-open key ranges
 * @property {Uint8Array | null} visible [1|N,1|M]
 * @property {number[]} visibleShape its two sizes
 * @property {Float32Array | null} bias [1|N,1|M]
 * @property {number[]} biasShape its two sizes
 * @property {Float32Array | null} diagonals [N+M-1], a bias that depends on key - query only
 * @property {number} slope ALiBi; 0 for none
 * @property {Float32Array | null} table [2R+1] relative bias
 * @property {number} offset the position of query 0
 * @property {number} sink a logit that joins the denominator only; -Infinity for none
 * @property {Float32Array | null} value [M,E], decoded when it is asked for
 * @property {number} valueWidth E
 * @property {Float32Array | null} gradient [N,E], dL/dcontext
 */

/**
 * Arrays of a layer, each with its heads first.
 * @typedef {object} Layer
 * @property {number} heads
 * @property {number} groups key/value heads
 * @property {number} n
 * @property {number} m
 * @property {number} width
 * @property {number} scale
 * @property {number | null} softcap
 * @property {number} offset
 * @property {Object<string, {data: any, shape: number[]}>} tensors
 */

/**
 * The part of a [1|H, ...] tensor that belongs to one head.
 * @param {{data: any, shape: number[]} | undefined} tensor
 * @param {number} index
 */
function partOf(tensor, index) {
  if (!tensor) return null;
  const heads = tensor.shape[0];
  const size = tensor.data.length / heads;
  const at = heads === 1 ? 0 : index;
  return tensor.data.subarray(at * size, (at + 1) * size);
}

/**
 * Head `index` of a layer, as views of the layer's arrays.
 * @param {Layer} layer
 * @param {number} index
 * @returns {Head}
 */
export function headOf(layer, index) {
  const t = layer.tensors;
  const group = Math.floor((index * layer.groups) / layer.heads);
  return {
    n: layer.n,
    m: layer.m,
    width: layer.width,
    scale: layer.scale,
    softcap: layer.softcap,
    offset: layer.offset,
    query: partOf(t.query, index),
    key: partOf(t.key, group),
    lse: partOf(t.lse, index),
    ranges: partOf(t.ranges, index),
    visible: partOf(t.visible, index),
    visibleShape: t.visible ? t.visible.shape.slice(1) : [1, 1],
    bias: partOf(t.bias, index),
    biasShape: t.bias ? t.bias.shape.slice(1) : [1, 1],
    diagonals: partOf(t.diagonals, index),
    slope: t.slopes ? t.slopes.data[index] : 0,
    table: partOf(t.table, index),
    sink: t.sinks ? t.sinks.data[index] : -Infinity,
    get value() {
      return partOf(t.value, group);
    },
    valueWidth: t.value ? t.value.shape[2] : 0,
    get gradient() {
      return partOf(t.gradient, index);
    },
  };
}
