import { decodeBase85 } from "../compute/base85.js";
import { decodeFloat16 } from "../compute/float16.js";
import { Parameters } from "./parameters.js";

const SCALES = ":scales";
const BYTES = { i1: 1, f2: 2, b2: 2, f4: 4 };

/**
 * Weights as a page carries them: all numbers of a kind in one block, its bytes sorted by their place in a number
 * (the first of all, then the second of all, ...), compressed by gzip, in base 85.
 * Kinds: "i1" whole numbers, "f2" float16, "b2" the upper half of a float32, "f4" float32. The rows of a tensor of whole
 * numbers have scales, which are another tensor: "<name>:scales".
 * @typedef {object} PackedWeights
 * @property {{kind: "i1" | "f2" | "b2" | "f4", count: number, text: string}[]} blocks
 * @property {{name: string, shape: number[], block: number, at: number}[]} tensors
 */

/**
 * @param {PackedWeights} packed
 * @returns {Promise<Parameters>}
 */
export async function readWeights({ blocks, tensors }) {
  const read = [];
  for (const block of blocks) read.push(await numbersOf(block));
  const named = new Map();
  for (const { name, shape, block, at } of tensors) {
    const size = shape.reduce((product, each) => product * each, 1);
    named.set(name, { shape, data: read[block].subarray(at, at + size) });
  }
  for (const [name, { data, shape }] of named) {
    const scales = named.get(name + SCALES);
    if (scales) scaleRows(data, scales.data, shape[0]);
  }
  return new Parameters(new Map([...named].filter(([name]) => !name.endsWith(SCALES))));
}

function scaleRows(data, scales, rows) {
  const columns = data.length / rows;
  for (let row = 0; row < rows; row++) {
    for (let at = row * columns; at < (row + 1) * columns; at++) data[at] *= scales[row];
  }
}

async function numbersOf({ kind, count, text }) {
  const planes = await inflated(decodeBase85(text.trim()));
  const bytes = planes.length / count;
  if (bytes !== BYTES[kind]) throw new Error("The weights of this page are not whole: write the page again.");
  if (kind === "i1") return new Float32Array(new Int8Array(planes.buffer));
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
