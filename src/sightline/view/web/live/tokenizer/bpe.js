import { expect, refuse } from "./refuse.js";

const CACHE = 10_000; // words
const LONG = 256; // characters: longer words hardly come twice

/**
 * Byte-pair encoding: of the pairs of neighbours, that with the lowest rank is merged, the first of equals.
 *
 * Source: Sennrich et al. 2016, "Neural machine translation of rare words with subword units".
 */
export class PairModel {
  /** @param {any} part `model` of tokenizer.json */
  constructor(part) {
    const { vocab, merges, unk_token: unknown, ...options } = part;
    expect("model", options, {
      dropout: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false,
    });
    /** @type {Map<string, number>} */
    this.ids = new Map(Object.entries(vocab));
    this.unknown = unknown === null || unknown === undefined ? null : (this.ids.get(unknown) ?? refuse("model.unk_token", unknown, "one in its vocabulary"));
    this.size = Math.max(0, ...this.ids.values()) + 1;
    /** @type {Map<number, {rank: number, id: number}>} */
    this.merges = new Map();
    for (const [rank, merge] of merges.entries()) this.learn(rank, ...pairOf(merge));
    /** @type {Map<string, number[]>} */
    this.known = new Map();
  }

  /** @param {number} rank @param {string} left @param {string} right */
  learn(rank, left, right) {
    const [a, b, id] = [this.ids.get(left), this.ids.get(right), this.ids.get(left + right)];
    if (a === undefined || b === undefined || id === undefined) refuse(`model.merges[${rank}]`, [left, right], "pieces of its vocabulary");
    this.merges.set(a * this.size + b, { rank, id });
  }

  /** @param {string} word @returns {number[]} ids */
  encode(word) {
    const known = this.known.get(word);
    if (known) return known;
    const ids = this.merged(this.characters(word));
    if (word.length <= LONG) {
      if (this.known.size >= CACHE) this.known.clear();
      this.known.set(word, ids);
    }
    return ids;
  }

  /** Characters that are not in the vocabulary are unknown, or left out. @param {string} word */
  characters(word) {
    const ids = [];
    for (const character of word) {
      const id = this.ids.get(character) ?? this.unknown;
      if (id !== null) ids.push(id);
    }
    return ids;
  }

  /** @param {number[]} ids of characters, which are overwritten */
  merged(ids) {
    const count = ids.length;
    const before = ids.map((_, at) => at - 1);
    const after = ids.map((_, at) => (at + 1 < count ? at + 1 : -1));
    const queue = new Queue();
    const ask = (/** @type {number} */ at) => {
      const merge = at >= 0 && after[at] >= 0 ? this.merges.get(ids[at] * this.size + ids[after[at]]) : undefined;
      if (merge) queue.push({ rank: merge.rank, at, id: merge.id });
    };
    for (let at = 0; at < count; at++) ask(at);
    for (let next = queue.pop(); next; next = queue.pop()) {
      const { at, id } = next;
      const right = after[at];
      if (ids[at] < 0 || right < 0) continue;
      // Neighbours may have changed since: what counts is what this pair would become now.
      if (this.merges.get(ids[at] * this.size + ids[right])?.id !== id) continue;
      [ids[at], ids[right]] = [id, -1];
      after[at] = after[right];
      if (after[at] >= 0) before[after[at]] = at;
      ask(before[at]);
      ask(at);
    }
    return ids.filter((id) => id >= 0);
  }
}

/** @param {unknown} merge ["a", "b"], or "a b" in older files @returns {[string, string]} */
function pairOf(merge) {
  const pair = typeof merge === "string" ? merge.split(" ") : merge;
  if (!Array.isArray(pair) || pair.length !== 2) refuse("a merge", merge, "pairs");
  return /** @type {[string, string]} */ (pair);
}

/** A heap of merges that wait: the lowest rank first, then the first place. */
class Queue {
  constructor() {
    /** @type {{rank: number, at: number, id: number}[]} */
    this.heap = [];
  }

  /** @param {{rank: number, at: number, id: number}} merge */
  push(merge) {
    const { heap } = this;
    let at = heap.length;
    while (at > 0 && isBefore(merge, heap[(at - 1) >> 1])) {
      heap[at] = heap[(at - 1) >> 1];
      at = (at - 1) >> 1;
    }
    heap[at] = merge;
  }

  pop() {
    const { heap } = this;
    const [first, last] = [heap[0], heap.pop()];
    if (heap.length === 0) return first;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child += 1;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

/** @param {{rank: number, at: number}} a @param {{rank: number, at: number}} b */
const isBefore = (a, b) => a.rank < b.rank || (a.rank === b.rank && a.at < b.at);
