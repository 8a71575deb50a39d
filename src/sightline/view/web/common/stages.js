/** The stages of attention in order, by the names that formulas, code and docs have, too. */
export const STAGES = ["scores", "scaled", "capped", "biased", "masked", "weights", "context"];

/** Those before the softmax. */
export const LOGITS = STAGES.slice(0, 5);
