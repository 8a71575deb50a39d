import { createPainter } from "./worker.js";

/**
 * Somewhere to send wishes for pictures: a worker where the browser lets this page have one, else this
 * thread, in slices short enough not to freeze it.
 * @param {string} source the worker's code
 * @param {(answer: any) => void} onAnswer
 * @returns {{send: (wish: any) => void}}
 */
export function openPainter(source, onAnswer) {
  let send = createPainter((answer) => onAnswer(answer));
  try {
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(address, { type: "module" });
    const here = send;
    let last = null;
    worker.onmessage = (event) => onAnswer(event.data);
    worker.onerror = () => {
      send = here;
      if (last !== null) here(last);
    };
    send = (wish) => {
      // A fallback needs the newest subject even when the newest wish did not repeat it.
      last = { ...last, ...wish };
      worker.postMessage(wish);
    };
  } catch {
    // No workers for this page: the slices on this thread serve.
  }
  return { send: (wish) => send(wish) };
}
