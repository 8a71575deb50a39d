import { decodeBase64 } from "./base64.js";
import { decodeFloat16 } from "./float16.js";

/**
 * Where a tensor is in the page: `id` names its text block, `kind` its numbers; `steps` what fixed-point
 * numbers [H,N,D] are multiplied with, per head and channel [H,1,D].
 * @typedef {object} TensorRef
 * @property {string} id
 * @property {"f2" | "f4" | "i4" | "i2" | "u1"} kind
 * @property {number[]} shape
 * @property {TensorRef} [steps]
 */

/**
 * Numbers of a tensor from the base64 text of its little-endian bytes.
 * @param {TensorRef["kind"]} kind
 * @param {string} text
 * @returns {Float32Array | Int32Array | Int16Array | Uint8Array}
 */
function decodeTensor(kind, text) {
  const bytes = decodeBase64(text.trim());
  if (kind === "f2") return decodeFloat16(new Uint16Array(bytes.buffer, 0, bytes.length / 2));
  if (kind === "f4") return new Float32Array(bytes.buffer, 0, bytes.length / 4);
  if (kind === "i4") return new Int32Array(bytes.buffer, 0, bytes.length / 4);
  if (kind === "i2") return new Int16Array(bytes.buffer, 0, bytes.length / 2);
  return bytes;
}

/**
 * A tensor of the page.
 * @param {TensorRef} ref
 * @param {(id: string) => string} textOf base64 text of a block
 */
export function readTensor(ref, textOf) {
  const numbers = decodeTensor(ref.kind, textOf(ref.id));
  if (!ref.steps) return numbers;
  const steps = decodeTensor(ref.steps.kind, textOf(ref.steps.id));
  const [heads, rows, width] = ref.shape;
  const out = new Float32Array(numbers.length);
  for (let h = 0, at = 0; h < heads; h++) {
    for (let i = 0; i < rows; i++) {
      for (let d = 0; d < width; d++, at++) out[at] = numbers[at] * steps[h * width + d];
    }
  }
  return out;
}
