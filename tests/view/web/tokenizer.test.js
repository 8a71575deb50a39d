/** The page's tokenizer by hand, and what it refuses; tests/view/live compares it with Hugging Face's. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { tokensOf } from "../../../src/sightline/view/web/live/tokenizer/labels.js";
import { createTokenizer } from "../../../src/sightline/view/web/live/tokenizer/tokenizer.js";

const added = (id, content) => ({ id, content, special: true, single_word: false, lstrip: false, rstrip: false, normalized: false });

function pieces(changes = {}) {
  const vocab = Object.fromEntries(["<unk>", "</s>", "▁", "a", "b", "▁a", "▁ab", "ab"].map((piece, id) => [piece, id]));
  return {
    version: "1.0", truncation: null, padding: null, post_processor: null, added_tokens: [added(0, "<unk>"), added(1, "</s>")],
    normalizer: { type: "Sequence", normalizers: [{ type: "NFC" }] },
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
    decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
    model: { type: "BPE", unk_token: "<unk>", vocab, merges: [["▁", "a"], ["a", "b"], ["▁a", "b"]] },
    ...changes,
  };
}

test("pairs are merged by their rank, and special tokens are found in a text", () => {
  const tokenizer = createTokenizer(pieces());
  assert.deepEqual(tokenizer.encode("ab bab</s>").tokens, ["▁ab", "▁", "b", "ab", "</s>"]);
  assert.deepEqual(tokenizer.encode("").ids, []);
  assert.equal(tokenizer.decode([6, 2, 4, 7, 1]), "ab bab");
  assert.equal(tokenizer.decode([6, 2, 4, 7, 1], { skipSpecial: false }), "ab bab</s>");
  assert.equal(tokenizer.decode([6, 99]), "ab");
  assert.equal(tokenizer.idOf("▁ab"), 6);
  assert.equal(tokenizer.tokenOf(99), undefined);
});

test("merges written as one string are those of a list", () => {
  const old = pieces();
  old.model.merges = ["▁ a", "a b", "▁a b"];
  assert.deepEqual(createTokenizer(old).encode("ab bab").ids, createTokenizer(pieces()).encode("ab bab").ids);
});

test("half a surrogate pair is an unknown character", () => {
  const tokenizer = createTokenizer(pieces());
  assert.deepEqual(tokenizer.encode("a\ud800b").tokens, ["▁a", "<unk>", "b"]);
  assert.deepEqual(tokenizer.encode("a\ud83d\ude00b").tokens, ["▁a", "<unk>", "b"]);
});

test("what it does not know is named", () => {
  const refused = (changes, about) => assert.throws(() => createTokenizer(pieces(changes)), about);
  refused({ normalizer: { type: "NFKC" } }, /normalizer\.type is "NFKC"; this page knows NFC, Lowercase, Sequence/);
  refused({ normalizer: { type: "Sequence", normalizers: [{ type: "Strip" }] } }, /normalizer\.type is "Strip"/);
  refused({ pre_tokenizer: { type: "Whitespace" } }, /pre_tokenizer\.type is "Whitespace"/);
  refused({ pre_tokenizer: { type: "Metaspace", replacement: "_", prepend_scheme: "always", split: true } }, /pre_tokenizer\.replacement is "_"/);
  refused({ pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: true } }, /prepend_scheme is "first"/);
  refused({ pre_tokenizer: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true } }, /add_prefix_space is true/);
  refused({ pre_tokenizer: { type: "Split", pattern: { Regex: "\\s" }, behavior: "Isolated", invert: false } }, /pre_tokenizer\.pattern/);
  refused({ decoder: { type: "WordPiece" } }, /decoder\.type is "WordPiece"/);
  refused({ post_processor: { type: "TemplateProcessing" } }, /the file\.post_processor/);
  refused({ truncation: { max_length: 5 } }, /the file\.truncation/);
  refused({ added_tokens: [{ ...added(1, "</s>"), lstrip: true }] }, /lstrip of the added token <\/s> is true/);
  refused({ model: { type: "Unigram", vocab: [] } }, /model\.type is "Unigram"; this page knows BPE, WordLevel/);
  const { model } = pieces();
  refused({ model: { ...model, byte_fallback: true } }, /model\.byte_fallback is true/);
  refused({ model: { ...model, dropout: 0.1 } }, /model\.dropout is 0\.1/);
  refused({ model: { ...model, novelty: 1 } }, /model\.novelty is 1; this page knows no such option/);
  refused({ model: { ...model, unk_token: "<none>" } }, /model\.unk_token is "<none>"/);
  refused({ model: { ...model, merges: [["a", "z"]] } }, /model\.merges\[0\]/);
  refused({ model: { type: "WordLevel", vocab: {}, unk_token: "<unk>" } }, /model\.unk_token/);
});

test("labels: words begin at marks and around special tokens", () => {
  const tokens = tokensOf(["▁The", "▁Ka", "tze", "</s>", "▁"]);
  assert.deepEqual(tokens.texts, ["The", "Ka", "tze", "</s>", "␣"]);
  assert.deepEqual(tokens.words, [0, 1, 1, 2, 3]);
  assert.deepEqual(tokens.glued, [false, false, true, false, false]);
  assert.deepEqual(tokens.special, [false, false, false, true, false]);
});

test("labels: bytes that are no whole character are written out", () => {
  assert.deepEqual(tokensOf(["Ġa", "ä½", "ł", "Ċ"]).texts, ["a", "⟨e4 bd⟩", "⟨a0⟩", "⏎"]);
});
