/** In a notebook's frame: what the page asks of its server goes to the notebook, whose kernel answers. */

/** @typedef {{id: number, status: number, headers: [string, string][], body: ArrayBuffer}} Answer */

/** @type {Map<number, (answer: Answer) => void>} */
const waiting = new Map();
let asked = 0;

function tell(message) {
  // The frame has no origin, and does not know the notebook's; nobody else is its parent.
  window.parent.postMessage(message, "*");
}

/** @param {any} where @param {any} how @returns {Promise<Response>} */
function fetchFromKernel(where, { method = "GET", body = null, signal = null } = {}) {
  const id = ++asked;
  return new Promise((resolve, reject) => {
    const stop = () => {
      if (waiting.delete(id)) tell({ kind: "stop", id });
      reject(new DOMException("stopped", "AbortError"));
    };
    if (signal?.aborted) return stop();
    signal?.addEventListener("abort", stop, { once: true });
    waiting.set(id, (answer) => {
      signal?.removeEventListener("abort", stop);
      resolve(new Response(answer.body, { status: answer.status, headers: answer.headers }));
    });
    tell({ kind: "ask", id, method, path: String(where), body });
  });
}

window.addEventListener("message", (event) => {
  if (event.source !== window.parent || event.data?.kind !== "answer") return;
  const answered = waiting.get(event.data.id);
  waiting.delete(event.data.id);
  answered?.(event.data);
});

window.fetch = fetchFromKernel;
