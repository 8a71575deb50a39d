import { poolLine, sampleLine } from "./pool.js";

const LARGE = 4e6; // weights; a picture of more is first sampled
const SLICE_MS = 40; // how long it works before it looks for a newer wish

/**
 * Pictures of the matrix, a few lines at a time, on whatever thread this runs.
 * A wish: {id, head?, queries?, keys?, region, height, width, reduce}; the head stays until another comes.
 * An answer: {id, y, lines: Float32Array, count, sampled}. A newer wish ends the older one.
 * @param {(answer: any, transfer: Transferable[]) => void} answer
 * @returns {(wish: any) => void}
 */
export function createPainter(answer) {
  let subject = null;
  let newest = 0;

  function paint(wish, y, sampled) {
    if (wish.id !== newest) return;
    const { head, queries, keys } = subject;
    const { region, height, width, reduce, id } = wish;
    const draw = sampled ? sampleLine : poolLine;
    const until = performance.now() + SLICE_MS;
    const lines = [];
    let line = y;
    do {
      lines.push(draw(head, queries, keys, region, line, height, width, reduce));
      line++;
    } while (line < height && performance.now() < until);
    const block = new Float32Array(lines.length * width);
    lines.forEach((values, at) => block.set(values, at * width));
    answer({ id, y, lines: block, count: lines.length, sampled }, [block.buffer]);
    if (line < height) setTimeout(() => paint(wish, line, sampled), 0);
    else if (sampled) setTimeout(() => paint(wish, 0, false), 0);
  }

  return (wish) => {
    if (wish.head) subject = { head: wish.head, queries: wish.queries, keys: wish.keys };
    newest = wish.id;
    const { r0, r1, c0, c1 } = wish.region;
    paint(wish, 0, (r1 - r0) * (c1 - c0) > LARGE);
  };
}

// In a worker there is no document: answer messages. In the page this is a module like any other.
if (typeof document === "undefined" && typeof self !== "undefined" && typeof self.postMessage === "function") {
  const take = createPainter((message, transfer) => self.postMessage(message, { transfer }));
  self.onmessage = (event) => take(event.data);
}
