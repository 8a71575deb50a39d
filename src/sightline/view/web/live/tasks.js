/**
 * What a model is for, as the page's description says: how a text becomes ids, and what its answer is.
 * @typedef {object} LiveTask
 * @property {"text" | "continuation" | "label" | "states"} answer what comes out: another text, more of the same, a label,
 *   or nothing but states
 * @property {string} name of the answer: "translation", "summary", "continuation", "label"
 * @property {number | null} context tokens that the model reads at most; null for no limit
 * @property {number} limit tokens that this page takes at most
 * @property {import("./generate.js").WritingOptions} writing
 * @property {string[]} labels
 *
 * @typedef {import("./tokenizer/tokenizer.js").Tokenizer} Tokenizer
 *
 * A text as ids: what the encoder reads, what the decoder begins with, and what the reader ought to know.
 * @typedef {{source: number[] | null, target: number[] | null, notices: string[]}} GivenIds
 */

/**
 * @param {string} text
 * @param {Tokenizer} tokenizer
 * @param {LiveTask} task
 * @param {any} config of the model
 * @returns {GivenIds}
 * @throws for a text that the model cannot read, with a sentence that says why
 */
export function idsGiven(text, tokenizer, task, config) {
  const ids = text.trim() ? tokenizer.encode(text).ids : [];
  if (ids.length === 0) throw new Error("There is no token in this text that the model knows: type a word.");
  if (task.answer === "text") {
    const source = config.end === null ? ids : [...ids, config.end];
    const most = Math.min(task.context ?? Infinity, task.limit);
    if (source.length > most) throw new Error(tooLong(source.length, most, task.context, "split it into shorter sentences"));
    return { source, target: [config.start], notices: [] };
  }
  if (task.answer === "continuation") {
    const most = Math.min(task.context ?? Infinity, task.limit);
    const notices = ids.length > most ? [`the text has ${ids.length} tokens; this page reads the last ${most}`] : [];
    return { source: null, target: ids.slice(-most), notices };
  }
  const most = Math.min(task.context ?? Infinity, task.limit);
  const notices = ids.length > most ? [`the text has ${ids.length} tokens; this page reads the first ${most}`] : [];
  return { source: ids.slice(0, most), target: null, notices };
}

function tooLong(size, most, context, remedy) {
  const who = most === context ? "the model reads" : "this page takes";
  return `This text has ${size} tokens, and ${who} ${most}: ${remedy}.`;
}

/**
 * The text of what was written, without the token that ends it.
 * @param {number[]} ids
 * @param {Tokenizer} tokenizer
 * @param {LiveTask} task
 */
export function textWritten(ids, tokenizer, task) {
  const text = tokenizer.decode(ids, { skipSpecial: true });
  return task.answer === "text" ? text.trim() : text;
}

const UNKNOWN_SHARE = 0.25; // of a text's pieces, from which on the reader is told that they are unknown

/**
 * What to say of a text that the model does not know much of.
 * @param {{texts: string[], special: boolean[], unknown: boolean[]}} tokens
 * @returns {string[]}
 */
export function unknownNotices({ texts, special, unknown }) {
  const count = unknown.filter(Boolean).length;
  const whole = texts.filter((text, at) => unknown[at] || !(special[at] || text === "␣")).length;
  if (!whole || count / whole <= UNKNOWN_SHARE) return [];
  return [`this model does not know ${count} of ${whole} ${whole === 1 ? "piece" : "pieces"} of the text`];
}
