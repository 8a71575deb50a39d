import { Answers } from "./answers.js";

const SLICE_MS = 25; // how long one computation runs before others may

/** Of the waiting computations the most urgent resumes first: what the pointer is on, then what comes into view, then the rest. */
const URGENCY = { cell: 0, row: 0, column: 0, stages: 1, received: 1, tile: 2, rollout: 3, relevance: 3, warm: 5 };

/**
 * Answers requests, several at a time, on whatever thread this runs.
 * A request: {id, layers?, ...asked}, or {cancel: id}. An answer: {id, answer} | {id, error}, and before it any number
 * of {id, share}, how much is done, and {id, told}, what is known so far.
 * @param {(message: any, transfer?: Transferable[]) => void} reply
 * @param {{take?: Answers["take"], answer: (asked: any, pause: (share: number) => Promise<void>, tell: (what: any) => void) => any}} [answers]
 * @returns {(request: any) => void}
 */
export function createAnswerer(reply, answers = new Answers()) {
  /** @type {Map<number, number>} requests that are answered now, with their urgency */
  const running = new Map();

  async function run(asked) {
    const urgency = (URGENCY[asked.what] ?? 0) + (asked.how && !asked.how.quick ? 2 : 0);
    running.set(asked.id, urgency);
    let until = performance.now() + SLICE_MS;
    const pause = async (share) => {
      if (performance.now() < until) return;
      if (!Number.isNaN(share)) reply({ id: asked.id, share });
      do await new Promise((resolve) => setTimeout(resolve, 0));
      while (running.has(asked.id) && Math.min(...running.values()) < urgency);
      if (!running.has(asked.id)) throw new Error("stopped");
      until = performance.now() + SLICE_MS;
    };
    try {
      // A request and its cancellation may come together: give the second a chance.
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (!running.has(asked.id)) return;
      const answer = await answers.answer(asked, pause, (told) => reply({ id: asked.id, told }));
      const values = answer instanceof Float32Array ? answer : answer.values;
      reply({ id: asked.id, answer }, values ? [values.buffer] : []);
    } catch (error) {
      if (running.has(asked.id)) reply({ id: asked.id, error: error instanceof Error ? error.message : String(error) });
    } finally {
      running.delete(asked.id);
    }
  }

  return (request) => {
    if ("cancel" in request) return void running.delete(request.cancel);
    for (const { call, raw, texts } of request.layers ?? []) answers.take(call, raw, texts);
    void run(request);
  };
}
