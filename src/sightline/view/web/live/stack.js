import { AttentionLayer } from "./attention.js";
import { FeedForward, normed } from "./layers.js";
import { distanceBias } from "./positions.js";
import { addInPlace } from "./products.js";

/** @typedef {import("./attention.js").Kept} Kept */
/** @typedef {import("./attention.js").Rows} Rows */
/** @typedef {import("./attention.js").Watch} Watch */

/** One block: self-attention, cross-attention in a decoder that has a memory, and a feed-forward layer. */
class Block {
  constructor(parameters, name, config, { stack, layer, crosses, bias }) {
    const attention = (part, section, own) =>
      new AttentionLayer(parameters, `${name}.${part}`, config, { section, layer, ...own });
    this.normFirst = config.norm_first;
    this.own = attention("self_attention", stack, bias);
    this.ownNorm = parameters.norm(`${name}.self_attention_norm`, config);
    this.cross = crosses ? attention("cross_attention", "cross", { slopes: null, table: null }) : null;
    this.crossNorm = crosses ? parameters.norm(`${name}.cross_attention_norm`, config) : null;
    this.feedForward = new FeedForward(parameters, `${name}.feed_forward`, config);
    this.feedForwardNorm = parameters.norm(`${name}.feed_forward_norm`, config);
  }

  /** Adds what a part makes of x to it: normed before the part, or after the sum. */
  joined(x, norm, part) {
    if (this.normFirst) return addInPlace(part(normed(x, norm)), x);
    return normed(addInPlace(part(x), x), norm);
  }

  /**
   * @param {Float32Array} x [R,C]
   * @param {(x: Float32Array) => Float32Array} look self-attention
   * @param {((x: Float32Array) => Float32Array) | null} recall cross-attention
   */
  forward(x, look, recall) {
    let h = this.joined(x, this.ownNorm, look);
    if (recall) h = this.joined(h, this.crossNorm, recall);
    return this.joined(h, this.feedForwardNorm, (y) => this.feedForward.forward(y, y.length / this.ownNorm.weight.length));
  }
}

/** Blocks one behind the other, and the norm that follows those that norm first. */
export class Stack {
  /**
   * @param {import("./parameters.js").Parameters} parameters
   * @param {"encoder" | "decoder"} name
   * @param {any} config
   * @param {number} layers
   * @param {boolean} crosses
   */
  constructor(parameters, name, config, layers, crosses) {
    this.name = name;
    const bias = distanceBias(parameters, name, config);
    this.blocks = Array.from(
      { length: layers },
      (_, layer) => new Block(parameters, `${name}.blocks.${layer}`, config, { stack: name, layer, crosses, bias }),
    );
    this.norm = config.norm_first ? parameters.norm(`${name}.norm`, config) : null;
  }

  /**
   * All positions at once, from x [N,C]; the states before the last norm are the residual stream's last.
   * @param {Float32Array} x
   * @param {number} count N
   * @param {{states: Float32Array, count: number} | null} memory
   * @param {Watch} watch
   */
  forward(x, count, memory, watch) {
    const positions = Array.from({ length: count }, (_, i) => i);
    const places = memory && Array.from({ length: memory.count }, (_, i) => i);
    const rows = { positions, paths: null };
    watch.capture?.stream(this.name, x);
    for (const block of this.blocks) {
      x = block.forward(
        x,
        (y) => attended(block.own, y, rows, y, positions, watch),
        block.cross && ((y) => attended(block.cross, y, rows, memory.states, places, watch)),
      );
      watch.capture?.stream(this.name, x);
    }
    return normed(x, this.norm);
  }
}

/** Attention over keys and values that are all projected now. */
function attended(attention, x, rows, from, places, watch) {
  const acting = watch.changes.of(attention.call);
  const { query, key, value } = attention.project(x, rows.positions, from, places, acting);
  return attention.attend(query, rows, { key, value, count: places.length }, watch);
}
