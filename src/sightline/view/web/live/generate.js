import { logSoftmax } from "./heads.js";

/**
 * How a text is written, as `generate` of sightline.models takes it.
 * @typedef {{newTokens: number, beams: number, lengthPenalty: number, noRepeat: number | null}} WritingOptions
 *
 * What was written: the tokens with the one that ends them, and Σ ln p, of a search divided by length^penalty.
 * @typedef {{ids: number[], score: number}} Written
 *
 * Hears of the likeliest text so far, and lets other work go on; may throw to stop.
 * @typedef {(ids: number[]) => Promise<void>} Heard
 */

/**
 * The likeliest token at a time, or of several candidates the likeliest text.
 * @param {import("./model.js").TextModel} model
 * @param {import("./model.js").Memory | null} memory
 * @param {number[]} ids what it begins with
 * @param {WritingOptions} options
 * @param {Heard} heard
 * @param {import("./attention.js").Watch} [watch]
 * @returns {Promise<Written>}
 */
export function write(model, memory, ids, options, heard, watch = undefined) {
  const next = new NextTokens(model, memory, watch);
  return options.beams > 1 ? searched(next, ids, options, heard) : greedy(next, ids, options, heard);
}

/** ln p of each next token; padding is never one. */
class NextTokens {
  constructor(model, memory, watch) {
    this.writing = model.writing(memory, watch);
    const { pad, end, vocabulary } = model.config;
    this.never = pad !== null && pad !== end ? pad : null;
    this.end = end;
    this.size = vocabulary;
  }

  first(ids) {
    return this.logP(this.writing.begin(ids));
  }

  next(ids, origins) {
    return this.logP(this.writing.next(ids, origins));
  }

  logP(logits) {
    if (this.never !== null) for (let at = this.never; at < logits.length; at += this.size) logits[at] = -Infinity;
    return logSoftmax(logits, this.size);
  }
}

async function greedy(next, ids, { newTokens, noRepeat }, heard) {
  const written = [];
  let score = 0;
  let logP = next.first(ids);
  for (;;) {
    const token = largest(barred(logP, next.size, noRepeat, [[...ids, ...written]]));
    score += logP[token];
    written.push(token);
    await heard(written);
    if (token === next.end || written.length === newTokens) return { ids: written, score };
    logP = next.next([token], [0]);
  }
}

/**
 * ln p of the next token of each text, −∞ where it would end a run of `count` tokens which is there already; a text in
 * which every token would be barred goes on with any. See NoRepeat in Python.
 */
function barred(logP, size, count, texts) {
  if (!count) return logP;
  const left = logP.slice();
  texts.forEach((text, row) => {
    for (const token of endedAgain(text, count)) left[row * size + token] = -Infinity;
    const own = left.subarray(row * size, (row + 1) * size);
    if (own.every((one) => one === -Infinity)) own.set(logP.subarray(row * size, (row + 1) * size));
  });
  return left;
}

/** The tokens that would end a run of `count` tokens which is in the text already. */
function endedAgain(text, count) {
  const begun = text.slice(text.length - count + 1);
  const again = [];
  for (let at = 0; at + count <= text.length; at++) if (begun.every((token, i) => text[at + i] === token)) again.push(text[at + count - 1]);
  return again;
}

function largest(numbers) {
  let best = 0;
  for (let at = 1; at < numbers.length; at++) if (numbers[at] > numbers[best]) best = at;
  return best;
}

/** The best finished texts; see FinishedTexts in Python. */
class Finished {
  constructor(penalty) {
    this.penalty = penalty;
    /** @type {Written | null} */
    this.best = null;
  }

  add(score, ids) {
    const compared = score / ids.length ** this.penalty;
    if (this.best === null || compared > this.best.score) this.best = { ids, score: compared };
  }

  /** Whether no unfinished text can still be better: the best score among them only falls. */
  settled(best, length, longest) {
    if (this.best === null) return false;
    return this.best.score >= best / (this.penalty > 0 ? longest : length) ** this.penalty;
  }
}

/**
 * Beam search. Of 2·beams continuations at least half do not end, so that there are always enough to go on with; at
 * `newTokens` all candidates end.
 */
async function searched(next, ids, { newTokens, beams, lengthPenalty, noRepeat }, heard) {
  const finished = new Finished(lengthPenalty);
  let candidates = [{ score: 0, text: [] }];
  let logP = next.first(ids);
  for (let length = 1; ; length++) {
    const last = length === newTokens;
    const texts = candidates.map(({ text }) => [...ids, ...text]);
    const best = continued(candidates, barred(logP, next.size, noRepeat, texts), next.size, 2 * beams);
    const ended = best.map(({ token }) => token === next.end);
    best.slice(0, beams).forEach((one, at) => {
      if ((ended[at] || last) && Number.isFinite(one.score)) finished.add(one.score, one.text);
    });
    // The best that do not end; those that do come behind them, and can lead to nothing.
    const kept = [...best.filter((_, at) => !ended[at]), ...best.filter((_, at) => ended[at])].slice(0, beams);
    candidates = kept.map((one) => (one.token === next.end ? { ...one, score: -Infinity } : one));
    const top = Math.max(...candidates.map(({ score }) => score));
    const done = last || finished.settled(top, length, newTokens);
    await heard(done ? finished.best.ids : candidates[0].text);
    if (done) return finished.best;
    logP = next.next(candidates.map(({ token }) => token), candidates.map(({ origin }) => origin));
  }
}

/** The best continuations of all candidates, descending; of equal ones that of the earlier candidate and token. */
function continued(candidates, logP, size, count) {
  /** @type {{score: number, origin: number, token: number}[]} */
  const best = [];
  candidates.forEach(({ score: before }, origin) => {
    if (before === -Infinity) return;
    for (let token = 0; token < size; token++) {
      const score = before + logP[origin * size + token];
      if (best.length === count && !(score > best[count - 1].score)) continue;
      if (score === -Infinity) continue;
      let at = best.length;
      while (at > 0 && best[at - 1].score < score) at -= 1;
      best.splice(at, 0, { score, origin, token });
      if (best.length > count) best.pop();
    }
  });
  return best.map((one) => ({ ...one, text: [...candidates[one.origin].text, one.token] }));
}
