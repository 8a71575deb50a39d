import { Capture } from "./capture.js";
import { Changes } from "./changes.js";
import { logSoftmax } from "./heads.js";
import { LiveLens } from "./lens.js";
import { idsGiven, textWritten } from "./tasks.js";
import { tokensOf } from "./tokenizer/labels.js";
import { LiveTrace } from "./trace.js";

/** @typedef {import("../source/types.js").Outcome} Outcome */
/** @typedef {import("./session.js").LiveSession} LiveSession */

const CANDIDATES = 10;
const PLACES = 256; // positions whose next words are told

/**
 * What is changed: a text, and what follows it in the trace that is shown, as ids, or as a text that was given; null
 * for what the model writes. `count` is how many tokens the trace has on its last side.
 * @typedef {{text: string, ids: number[] | null, answer: string | null, count: number}} Base
 */

/**
 * The same tokens with changes, and what comes out: a trace is kept, and both outcomes are told.
 * @param {LiveSession} session
 * @param {Base & {changes: import("./changes.js").Change[], trace: string, title: string, like: any}} asked
 * @param {(share: number) => Promise<void>} pause
 */
export async function changedRun(session, { changes, trace, title, like, ...base }, pause) {
  const [none, acting] = [new Changes(), new Changes(changes)];
  const { given, ids } = await begun(session, base, pause);
  const before = await outcomeOf(session, given, ids, { changes: none, capture: null }, pause);
  const capture = new Capture();
  const after = await outcomeOf(session, given, ids, { changes: acting, capture }, pause);
  const target = given.target && behind(session, given, ids);
  const tokens = { source: session.tokensOf(given.source), target: session.tokensOf(target) };
  const lens = LiveLens.of(session.model, capture, target ?? given.source, (id) => session.tokensOf([id]).texts[0], session.task.labels);
  const kept = new LiveTrace(capture, tokens, lens);
  session.traces.set(trace, kept);
  const notice = `what if: the model looks otherwise here (${changes.length} change${changes.length > 1 ? "s" : ""})`;
  const texts = after.text === null ? [base.text] : [base.text, after.text];
  const about = kept.about({ id: trace, title, texts, notices: [notice], output: shown(session, after) }, like);
  return { about, sides: kept.sides, before, after };
}

/**
 * What each head does to the answer: how much the mean ln p of what is written, or the probability of the likeliest
 * label or next word, changes without it.
 * @param {LiveSession} session
 * @param {Base} base
 * @param {(share: number) => Promise<void>} pause
 * @param {(told: any) => void} tell
 */
export async function effectsOfHeads(session, base, pause, tell) {
  const { given, ids } = await begun(session, base, pause);
  const { value, about, best } = answerOf(session, given, ids, [], null);
  const sections = sectionsOf(session.model);
  const total = Object.values(sections).reduce((sum, layers) => sum + layers.reduce((a, heads) => a + heads, 0), 0);
  /** @type {Object<string, number[][]>} */
  const found = {};
  let done = 0;
  for (const [section, layers] of Object.entries(sections)) {
    found[section] = layers.map(() => []);
    for (const [layer, heads] of layers.entries()) {
      for (let head = 0; head < heads; head++) {
        const without = answerOf(session, given, ids, [{ kind: "ablate", section, layer, head }], best);
        found[section][layer].push(without.value - value);
        done += 1;
        tell({ share: done / total, what: "each head is taken away" });
        await pause(NaN);
      }
    }
  }
  return { about, baseline: value, sections: found };
}

/** The text's ids, and those that follow it in the trace that is shown. */
async function begun(session, { text, ids, answer, count }, pause) {
  const { tokenizer, task, model } = session;
  const given = idsGiven(text, tokenizer, task, model.config);
  let follows = ids ?? (given.target === null ? [] : null);
  if (follows === null && answer !== null) follows = tokenizer.encode(answer).ids;
  if (follows === null && task.answer === "continuation") follows = [];
  follows ??= (await session.written(given, new Changes(), pause, () => {})).ids;
  const { length } = given.target ? behind(session, given, follows) : given.source;
  if (length !== count) throw new Error("This page does not keep the whole text: type it above, and change that.");
  return { given, ids: follows };
}

/** What the decoder reads: as much as there are positions for, since nothing came after the last token. */
function behind({ model }, { target }, ids) {
  const room = model.config.positions === "learned" ? model.config.max_positions : Infinity;
  return [...target, ...ids].slice(0, room);
}

/** What comes out under changes: what the model writes, and the likeliest next words along the trace's tokens. @returns {Promise<Outcome>} */
async function outcomeOf(session, given, ids, watch, pause) {
  const { task, tokenizer } = session;
  const { logits, places } = logitsOf(session, given, ids, watch);
  await pause(NaN);
  if (task.answer === "states") return { about: "", places: [], candidates: [], text: null };
  const size = logits.length / Math.max(1, places.length);
  if (!given.target) return { about: "label", places: [], candidates: [best(logits, (at) => task.labels[at] ?? String(at))], text: null };
  const first = Math.max(0, places.length - PLACES);
  const candidates = places.slice(first).map((_, row) => best(logits.subarray((first + row) * size, (first + row + 1) * size), (id) => wordOf(tokenizer.tokenOf(id) ?? `#${id}`)));
  const written = await session.written(given, watch.changes, pause, () => {});
  return { about: "next word", places: places.slice(first), candidates, text: textWritten(written.ids, tokenizer, task) };
}

/** ln p of labels [K], or of the next word at each position from the last of what was given on. */
function logitsOf(session, given, ids, watch) {
  const { model } = session;
  const { source, target } = given;
  const memory = source ? model.encode(source, watch) : null;
  if (!target) {
    const labels = Float32Array.from(model.logits(memory.states, memory.count));
    return { logits: logSoftmax(labels, labels.length), places: [] };
  }
  const all = behind(session, given, ids);
  const states = model.decode(all, memory, watch);
  const places = Array.from({ length: all.length - target.length + 1 }, (_, row) => target.length - 1 + row);
  const rows = states.subarray((target.length - 1) * model.config.width);
  return { logits: logSoftmax(model.logits(rows, places.length, memory), model.config.vocabulary), places };
}

/** The number that effects are about; `wanted` is the label or the next word, else the likeliest. */
function answerOf(session, given, ids, changes, wanted) {
  const { logits, places } = logitsOf(session, given, ids, { changes: new Changes(changes), capture: null });
  if (ids.length) {
    const size = logits.length / places.length;
    const sum = ids.reduce((total, id, row) => total + logits[row * size + id], 0);
    return { value: sum / ids.length, about: "mean log-probability of what is written", best: null };
  }
  const at = wanted ?? likeliest(logits);
  const name = given.target ? wordOf(session.tokenizer.tokenOf(at)).trim() : session.task.labels[at];
  return { value: Math.exp(logits[at]), about: `probability of “${name}”${given.target ? " next" : ""}`, best: at };
}

/** @param {Float32Array | Float64Array} logP */
function likeliest(logP) {
  let most = 0;
  for (let at = 1; at < logP.length; at++) if (logP[at] > logP[most]) most = at;
  return most;
}

/** The heads of each layer, by section. @returns {Object<string, number[]>} */
function sectionsOf({ encoder, decoder }) {
  const heads = (stack, part) => stack.blocks.map((block) => block[part].call.heads);
  const found = {};
  if (encoder) found.encoder = heads(encoder, "own");
  if (decoder) found.decoder = heads(decoder, "own");
  if (encoder && decoder) found.cross = heads(decoder, "cross");
  return found;
}

/** The likeliest, with their probabilities. @param {Float32Array} logP @param {(at: number) => string} nameOf @returns {[string, number][]} */
function best(logP, nameOf) {
  const order = Array.from(logP.keys()).sort((a, b) => logP[b] - logP[a] || a - b);
  return order.slice(0, CANDIDATES).map((at) => [nameOf(at), Math.exp(logP[at])]);
}

/** A piece of the vocabulary as it is written after others. @param {string} piece */
function wordOf(piece) {
  const [label] = tokensOf([piece]).texts;
  return /^[\u2581\u0120 ]./.test(piece) ? ` ${label}` : label;
}

/** What the page shows as the answer. @param {LiveSession} session @param {Outcome} after @returns {import("../source/types.js").Output | null} */
function shown({ task }, { about, candidates, text }) {
  if (about === "") return null;
  if (text !== null) return { kind: /** @type {"text"} */ ("text"), name: task.name, text, given: false, choices: [] };
  const choices = candidates[0].slice(0, 5).map(([label, probability]) => ({ text: label, probability }));
  const kind = /** @type {"label"} */ ("label");
  return { kind, name: task.name, text: choices[0].text, given: false, choices };
}
