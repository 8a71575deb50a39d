import { addedTokensOf, cutterOf } from "./added.js";
import { PairModel } from "./bpe.js";
import { decoderOf } from "./decoders.js";
import { normalizerOf } from "./normalizers.js";
import { expect, refuse } from "./refuse.js";
import { splitterOf } from "./splitters.js";
import { WordModel } from "./words.js";

/**
 * @typedef {object} Tokenizer
 * @property {(text: string) => {ids: number[], tokens: string[]}} encode no token is added that is not in the text
 * @property {(ids: Iterable<number>, how?: {skipSpecial?: boolean}) => string} decode special tokens are left out unless told
 * @property {(token: string) => number | undefined} idOf
 * @property {(id: number) => string | undefined} tokenOf
 * @property {(id: number) => boolean} isSpecial
 * @property {number} size of the vocabulary
 */

/**
 * The tokenizer that a tokenizer.json describes, with the very ids, tokens and texts of Hugging Face's: byte
 * pairs within words or over bytes, whole words, and characters.
 *
 * Half of a surrogate pair, which is no character, counts as U+FFFD.
 * @param {any} json
 * @returns {Tokenizer}
 * @throws where the file asks for anything else
 */
export function createTokenizer(json) {
  expect("the file", json, {
    version: "1.0", truncation: null, padding: null, post_processor: null,
    added_tokens: undefined, normalizer: undefined, pre_tokenizer: undefined, decoder: undefined, model: undefined,
  });
  const added = addedTokensOf(json.added_tokens);
  const model = modelOf(json.model);
  const [cut, normalize, split, join] = [cutterOf(added), normalizerOf(json.normalizer), splitterOf(json.pre_tokenizer), decoderOf(json.decoder)];
  const ids = new Map([...model.ids, ...added.map(({ content, id }) => /** @type {[string, number]} */ ([content, id]))]);
  const tokens = new Map([...ids].map(([token, id]) => [id, token]));
  const special = new Set(added.filter((token) => token.special).map(({ id }) => id));

  /** @param {string} text */
  function idsOf(text) {
    const found = [];
    for (const part of cut(text.replace(/[\ud800-\udfff]/gu, "\ufffd"))) {
      if (part.id !== null) found.push(part.id);
      else for (const word of split(normalize(part.text))) for (const id of model.encode(word)) found.push(id);
    }
    return found;
  }

  return {
    encode(text) {
      const found = idsOf(text);
      return { ids: found, tokens: found.map((id) => tokens.get(id)) };
    },
    decode(given, { skipSpecial = true } = {}) {
      const kept = Array.from(given).filter((id) => tokens.has(id) && !(skipSpecial && special.has(id)));
      return join(kept.map((id) => tokens.get(id)));
    },
    idOf: (token) => ids.get(token),
    tokenOf: (id) => tokens.get(id),
    isSpecial: (id) => special.has(id),
    size: ids.size,
  };
}

/** @param {any} part `model` of tokenizer.json */
function modelOf(part) {
  if (part?.type === "BPE") return new PairModel(part);
  if (part?.type === "WordLevel") return new WordModel(part);
  return refuse("model.type", part?.type, "BPE, WordLevel");
}
