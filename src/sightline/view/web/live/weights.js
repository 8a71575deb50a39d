import { decodeBase64 } from "../compute/base64.js";
import { decodeFloat16 } from "../compute/float16.js";
import { Parameters } from "./parameters.js";

/**
 * Weights as a page carries them: all numbers of a kind in one block, its bytes sorted by their place in a number
 * (the first of all, then the second of all, ...), compressed by gzip, in base64.
 * Kinds: "f2" float16, "b2" the upper half of a float32, "f4" float32.
 * @typedef {object} PackedWeights
 * @property {{kind: "f2" | "b2" | "f4", count: number, text: string}[]} blocks
 * @property {{name: string, shape: number[], block: number, at: number}[]} tensors
 */

/**
 * @param {PackedWeights} packed
 * @returns {Promise<Parameters>}
 */
export async function readWeights({ blocks, tensors }) {
  const read = [];
  for (const block of blocks) read.push(await numbersOf(block));
  const named = tensors.map(({ name, shape, block, at }) => {
    const size = shape.reduce((product, each) => product * each, 1);
    return /** @type {const} */ ([name, { shape, data: read[block].subarray(at, at + size) }]);
  });
  return new Parameters(new Map(named));
}

async function numbersOf({ kind, count, text }) {
  const planes = await inflated(decodeBase64(text.trim()));
  const bytes = planes.length / count;
  if (kind === "f4" ? bytes !== 4 : bytes !== 2) throw new Error("The weights of this page are not whole: write the page again.");
  if (kind === "f2") return decodeFloat16(joinedPairs(planes, count));
  const out = new Uint32Array(count);
  for (let plane = 0; plane < bytes; plane++) {
    const shift = 8 * (plane + 4 - bytes);
    for (let at = 0; at < count; at++) out[at] |= planes[plane * count + at] << shift;
  }
  return new Float32Array(out.buffer);
}

function joinedPairs(planes, count) {
  const out = new Uint16Array(count);
  for (let at = 0; at < count; at++) out[at] = planes[at] | (planes[count + at] << 8);
  return out;
}

async function inflated(bytes) {
  const Inflater = /** @type {any} */ (globalThis).DecompressionStream; // younger than the types that are checked here
  if (Inflater === undefined) {
    throw new Error("This browser cannot unpack the model (it lacks DecompressionStream): take Firefox 113, Chrome 80, Safari 16.4 or later.");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new Inflater("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
