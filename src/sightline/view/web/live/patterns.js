import { HIDDEN } from "../compute/weights.js";

/** What `sightline.measure.head_labels` reads off a head, and its thresholds. */
const SINK = 0.9;
const PATTERN = 0.4;
const BROAD = 0.85;
const LOCAL = 0.6;
const RADIUS = 5;
const OFFSETS = 8;
const ROWS = 3;
const TINY = 1e-6;

const NEAREST = { "previous token": -1, "current token": 0, "next token": 1 };

/** A share of what the sinks leave, over the rows in which a pattern is possible. */
class Share {
  constructor() {
    this.rows = 0;
    this.weight = 0;
    this.whole = 0;
  }

  add(weight, left) {
    this.rows += 1;
    this.weight += weight;
    this.whole += left;
  }

  get value() {
    return this.rows >= ROWS && this.whole > TINY ? this.weight / this.whole : NaN;
  }
}

/** Sums over the rows of one head of self-attention; the first key that any query sees is the sink. */
export class Patterns {
  /**
   * @param {import("../compute/head.js").Head} head
   * @param {string[] | null} texts of the tokens; null where repeats are not looked for
   * @param {(take: (row: Float64Array, i: number) => void) => void} eachRow
   */
  constructor({ m, offset }, texts, eachRow) {
    this.offset = offset;
    this.texts = texts;
    this.sink = m;
    eachRow((row) => {
      const first = row.findIndex((weight) => weight !== HIDDEN);
      if (first >= 0 && first < this.sink) this.sink = first;
    });
    this.seen = 0;
    this.sunk = 0;
    this.steps = new Map(Array.from({ length: 2 * OFFSETS + 1 }, (_, at) => [at - OFFSETS, new Share()]));
    this.near = new Share();
    this.copies = { "induction": new Share(), "duplicate token": new Share() };
    this.following = { sum: 0, rows: 0 };
    this.spread = { entropy: 0, most: 0 };
    eachRow((row, i) => this.take(row, i));
  }

  take(row, i) {
    let [others, entropy] = [0, 0];
    for (let j = 0; j < row.length; j++) {
      if (row[j] === HIDDEN) continue;
      if (j !== this.sink) others += 1;
      if (j !== this.sink && row[j] > 0) entropy -= row[j] * Math.log(row[j]);
    }
    const sees = others > 0 || row[this.sink] !== HIDDEN;
    if (!sees) return;
    const sunk = Math.max(0, row[this.sink] ?? 0);
    const left = Math.max(0, 1 - sunk);
    this.seen += 1;
    this.sunk += sunk;
    this.spreads(entropy, left, others);
    this.stepsOf(row, i + this.offset, left);
    if (this.texts) this.repeats(row, i + this.offset, left);
  }

  spreads(entropy, left, others) {
    if (others <= 1) return;
    // With w' = w / left, left · H(w') = H(w) + left · ln(left).
    this.spread.entropy += entropy + (left > 0 ? left * Math.log(left) : 0);
    this.spread.most += left * Math.log(others);
  }

  stepsOf(row, position, left) {
    let near = 0;
    for (const [step, share] of this.steps) {
      const key = position + step;
      if (key < 0 || key >= row.length || key === this.sink) continue;
      const weight = Math.max(0, row[key]);
      share.add(weight, left);
      if (Math.abs(step) <= RADIUS) near += weight;
    }
    this.near.add(near, left);
  }

  /** Earlier keys with the query's own token, and those behind such keys. */
  repeats(row, position, left) {
    const { texts } = this;
    const same = { sum: 0, there: false };
    const behind = { sum: 0, there: false };
    const all = { sum: 0, there: false };
    const note = (into, weight) => {
      into.sum += Math.max(0, weight);
      into.there ||= weight !== HIDDEN;
    };
    for (let j = 0; j < Math.min(position, row.length); j++) {
      const follows = j > 0 && texts[j - 1] === texts[position];
      if (follows) note(all, row[j]);
      if (j === this.sink) continue;
      if (follows) note(behind, row[j]);
      if (texts[j] === texts[position]) note(same, row[j]);
    }
    if (same.there) this.copies["duplicate token"].add(same.sum, left);
    if (behind.there) this.copies.induction.add(behind.sum, left);
    if (!all.there) return;
    this.following.sum += all.sum;
    this.following.rows += 1;
  }

  /** The mean weight on what followed the query's token before, sinks included; NaN where no token comes again. */
  get induction() {
    return this.following.rows ? this.following.sum / this.following.rows : NaN;
  }

  /** Every score by name, in the order in which labels are looked for; NaN where the text gave no occasion. */
  scores() {
    const near = Object.values(NEAREST);
    const farther = [...this.steps].filter(([step]) => !near.includes(step)).map(([, share]) => share.value);
    const known = farther.filter((value) => !Number.isNaN(value));
    return {
      sink: this.seen ? this.sunk / this.seen : NaN,
      patterns: {
        ...Object.fromEntries(Object.entries(NEAREST).map(([name, step]) => [name, this.steps.get(step).value])),
        positional: known.length ? Math.max(...known) : NaN,
        induction: this.copies.induction.value,
        "duplicate token": this.copies["duplicate token"].value,
      },
      broad: this.spread.most > TINY ? this.spread.entropy / this.spread.most : NaN,
      local: this.near.value,
    };
  }
}

/** What a head does, in a word. @param {ReturnType<Patterns["scores"]>} scores */
export function labelOf({ sink, patterns, broad, local }) {
  if (Number.isNaN(sink)) return "empty";
  if (sink >= SINK) return "sink";
  let [best, most] = ["", NaN];
  for (const [name, score] of Object.entries(patterns)) {
    if (!Number.isNaN(score) && !(score <= most)) [best, most] = [name, score];
  }
  if (most >= PATTERN) return best;
  if (broad >= BROAD) return "broad";
  return local >= LOCAL ? "local" : "mixed";
}
