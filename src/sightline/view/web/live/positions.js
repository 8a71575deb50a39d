const THETA = 10000;

/** θ^(−2f/width) for each pair f of features, as float32 holds it. @param {number} width */
function frequencies(width) {
  return Float32Array.from({ length: width / 2 }, (_, f) => THETA ** ((-2 * f) / width));
}

/** Vectors that are added to the input by position: none, learned, or sinusoids. */
export class InputPositions {
  /**
   * @param {import("./parameters.js").Parameters} parameters
   * @param {string} name of the embedding
   * @param {{positions: string, width: number}} config
   */
  constructor(parameters, name, { positions, width }) {
    this.width = width;
    this.learned = positions === "learned" ? parameters.get(`${name}.positions.weight`).data : null;
    this.waves = positions.startsWith("sinusoidal") ? frequencies(width) : null;
    this.interleaved = positions === "sinusoidal";
  }

  /** Adds the vector of a position to a row of x. @param {Float32Array} x @param {number} row @param {number} position */
  add(x, row, position) {
    const at = row * this.width;
    if (this.learned) {
      const from = position * this.width;
      if (from >= this.learned.length) {
        throw new Error(`Position ${position} lies beyond the ${this.learned.length / this.width} that this model has learned: shorten the text.`);
      }
      for (let c = 0; c < this.width; c++) x[at + c] += this.learned[from + c];
    }
    if (!this.waves) return;
    const [step, cosines] = this.interleaved ? [2, 1] : [1, this.width / 2];
    for (let f = 0; f < this.waves.length; f++) {
      const angle = Math.fround(position * this.waves[f]);
      x[at + step * f] += Math.sin(angle);
      x[at + step * f + cosines] += Math.cos(angle);
    }
  }
}

/** Turns each pair of features (f, f + D/2) of every head by its position's angle. */
export class RotaryTurn {
  /** @param {number} width D, of a head @param {number} share of its pairs, the fastest, that turn at all */
  constructor(width, share) {
    this.width = width;
    this.turning = Math.round((share * width) / 2);
    this.frequencies = frequencies(width);
  }

  /**
   * @param {Float32Array} x [R, heads · D], changed in place
   * @param {number[]} positions of the rows
   */
  turn(x, positions) {
    const half = this.width / 2;
    const row = x.length / positions.length;
    positions.forEach((position, r) => {
      for (let f = 0; f < this.turning; f++) {
        const angle = Math.fround(position * this.frequencies[f]);
        const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
        for (let at = r * row + f; at < (r + 1) * row; at += this.width) {
          const [first, second] = [x[at], x[at + half]];
          x[at] = first * cos - second * sin;
          x[at + half] = first * sin + second * cos;
        }
      }
    });
  }
}

/** ALiBi's slope of each head (Press et al. 2022). @param {number} heads */
function alibiSlopes(heads) {
  const power = 2 ** Math.floor(Math.log2(heads));
  const slopes = Array.from({ length: power }, (_, h) => 2 ** ((-8 * (h + 1)) / power));
  const between = Array.from({ length: power }, (_, h) => 2 ** ((-4 * (2 * h + 1)) / power));
  return Float32Array.from([...slopes, ...between.slice(0, heads - power)]);
}

const REACH = 128; // T5's distance from which on all share a bucket

/** T5's table of a bias for each head and distance, [H, 2·REACH + 1]. @param {{data: Float32Array, shape: number[]}} tensor @param {boolean} bidirectional */
function relativeTable({ data: weight, shape }, bidirectional) {
  const [buckets, heads] = shape;
  const table = new Float32Array(heads * (2 * REACH + 1));
  for (let distance = -REACH; distance <= REACH; distance++) {
    const bucket = bucketOf(distance, buckets, bidirectional);
    for (let h = 0; h < heads; h++) table[h * (2 * REACH + 1) + distance + REACH] = weight[bucket * heads + h];
  }
  return table;
}

/** The bucket of a distance, key minus query: near ones have their own, farther ones share wider and wider ones. */
function bucketOf(distance, all, bidirectional) {
  const buckets = bidirectional ? all / 2 : all;
  const first = bidirectional && distance > 0 ? buckets : 0;
  const size = bidirectional ? Math.abs(distance) : Math.max(0, -distance);
  const exact = Math.floor(buckets / 2);
  if (size < exact) return first + size;
  const ratio = Math.fround(Math.log(REACH / exact));
  const shared = Math.fround(Math.fround(Math.log(Math.fround(size / exact))) / ratio) * (buckets - exact);
  return first + Math.min(exact + Math.trunc(Math.fround(shared)), buckets - 1);
}

/**
 * What biases the scores of a stack by distance: ALiBi's slopes [H], a table [H, 2R+1], or neither.
 * @param {import("./parameters.js").Parameters} parameters
 * @param {string} stack "encoder" or "decoder"
 * @param {{positions: string, heads: number}} config
 * @returns {{slopes: Float32Array | null, table: Float32Array | null}}
 */
export function distanceBias(parameters, stack, { positions, heads }) {
  const slopes = positions === "alibi" ? alibiSlopes(heads) : null;
  const table = positions === "relative" ? relativeTable(parameters.get(`${stack}.positions.weight`), stack === "encoder") : null;
  return { slopes, table };
}
