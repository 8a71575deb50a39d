/** Standard input: {tokenizers, lines, labels}. Standard output: what the page's tokenizers make of each line. */
import { readFileSync } from "node:fs";
import { tokensOf } from "../../../src/sightline/view/web/live/tokenizer/labels.js";
import { createTokenizer } from "../../../src/sightline/view/web/live/tokenizer/tokenizer.js";

const { tokenizers, lines, labels } = JSON.parse(readFileSync(0, "utf8"));
const answers = Object.entries(tokenizers).map(([name, json]) => {
  const tokenizer = createTokenizer(json);
  const answer = lines.map((line) => {
    const { ids, tokens } = tokenizer.encode(line);
    return { ids, tokens, texts: [tokenizer.decode(ids), tokenizer.decode(ids, { skipSpecial: false })], labels: labels ? tokensOf(tokens) : null };
  });
  return [name, answer];
});
process.stdout.write(JSON.stringify(Object.fromEntries(answers)));
