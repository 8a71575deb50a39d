/** What this tokenizer does not know must not pass as if it did. */

/** @param {string} name where in tokenizer.json @param {unknown} found @param {string} known @returns {never} */
export function refuse(name, found, known) {
  throw new Error(`tokenizer.json: ${name} is ${JSON.stringify(found)}; this page knows ${known}`);
}

/**
 * Refuse options of a part that are not as they are known, those that are not named included.
 * @param {string} name of the part
 * @param {Object<string, unknown>} part
 * @param {Object<string, unknown>} known each option with its only value; `undefined` for any
 */
export function expect(name, part, known) {
  for (const [option, value] of Object.entries(part)) {
    if (option === "type") continue;
    if (!(option in known)) refuse(`${name}.${option}`, value, "no such option");
    if (known[option] !== undefined && value !== known[option]) refuse(`${name}.${option}`, value, JSON.stringify(known[option]));
  }
}
