/** A data source: what the page knows of the traces, asked of the server that it came from. */
export class ServedSource {
  constructor() {
    this.can = { read: false, upload: false };
  }

  async list() {
    const listed = await this.json("/api/traces");
    this.can = listed.can;
    return listed.traces;
  }

  about(trace) {
    return this.json(traceAddress(trace));
  }

  tokens(trace, side, from, count) {
    return this.json(`${traceAddress(trace)}/tokens?${new URLSearchParams({ side, from: String(from), count: String(count) })}`);
  }

  async find(trace, side, text, from) {
    const asked = new URLSearchParams({ side, text, from: String(from) });
    return (await this.json(`${traceAddress(trace)}/find?${asked}`)).found;
  }

  /** @param {any} place @param {any} tile @param {{reduce: string, quick: boolean, signal?: AbortSignal}} how */
  async tile(place, tile, { reduce, quick, signal }) {
    const asked = { ...tile, reduce, quality: quick ? "quick" : "exact" };
    const { values, shape, sampled } = await this.floats(callAddress(place, "tile", asked), signal);
    return { values, height: shape[0], width: shape[1], sampled };
  }

  progress(place) {
    return this.json(callAddress(place, "progress"));
  }

  async row(place, from, to, signal) {
    return (await this.floats(callAddress(place, "row", { query: from, to }), signal)).values;
  }

  async column(place, from, to, signal) {
    return (await this.floats(callAddress(place, "column", { key: from, to }), signal)).values;
  }

  async received(place, signal) {
    return (await this.floats(callAddress(place, "received"), signal)).values;
  }

  cell(place, query, key, signal) {
    return this.json(callAddress(place, "cell", { query, key }), { signal });
  }

  stages(place, query, k, signal) {
    return this.json(callAddress(place, "stages", { query, k }), { signal });
  }

  numbers(trace, call, signal) {
    return this.json(callAddress({ trace, call, head: "mean" }, "numbers"), { signal });
  }

  async thumbnails(trace, call, signal) {
    const { values, shape } = await this.floats(callAddress({ trace, call, head: "mean" }, "thumbnails"), signal);
    return { values, heads: shape[0], height: shape[1], width: shape[2] };
  }

  /** @param {string} trace @param {string} section @param {string} name @param {any} how */
  async flow(trace, section, name, { direction, from, to, signal }) {
    const asked = new URLSearchParams({ section, name, direction, from: String(from), to: String(to) });
    return (await this.floats(`${traceAddress(trace)}/flow?${asked}`, signal)).values;
  }

  lens(trace, position, signal) {
    return this.json(`${traceAddress(trace)}/lens?${new URLSearchParams({ position: String(position) })}`, { signal });
  }

  /** The image as pixels, or the spectrogram as numbers [frames * bins]. */
  async medium(trace) {
    const answer = await this.fetch(`${traceAddress(trace)}/medium`);
    const [height, width, channels] = shapeOf(answer);
    const data = await answer.arrayBuffer();
    return channels === 4 ? new ImageData(new Uint8ClampedArray(data), width, height) : new Float32Array(data);
  }

  /**
   * The model runs over a text; the id of the new trace.
   * @param {any} texts
   * @param {any} how
   */
  async read({ text, pair }, how) {
    return (await this.job("/api/read", { text, pair: pair || null }, how)).trace;
  }

  /**
   * @param {string} trace
   * @param {any[]} changes
   * @param {any} how
   */
  async whatIf(trace, changes, how) {
    return (await this.job(`${traceAddress(trace)}/what-if`, { changes }, how)).result;
  }

  /**
   * @param {string} trace
   * @param {any} how
   */
  async effects(trace, how) {
    return (await this.job(`${traceAddress(trace)}/effects`, {}, how)).result;
  }

  /**
   * Something that takes a while, from the beginning to its end.
   * @param {string} address
   * @param {any} given
   * @param {any} how
   */
  async job(address, given, { onProgress, signal }) {
    const asked = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(given), signal };
    const { job } = await this.json(address, asked);
    const where = `/api/jobs/${encodeURIComponent(job)}`;
    const stop = () => void fetch(where, { method: "DELETE" });
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    for (let wait = 20; ; wait = Math.min(200, 2 * wait)) {
      const progress = await this.json(where, { signal });
      if (progress.error) throw new Error(progress.error);
      if (progress.trace || progress.result) {
        signal?.removeEventListener("abort", stop);
        return progress;
      }
      onProgress?.(progress.share, progress.what);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  /** A saved trace goes to the server; its id there. */
  /** @param {File} file @param {any} how @returns {Promise<string>} */
  upload(file, { onProgress, signal }) {
    return new Promise((resolve, reject) => {
      // fetch does not report how much was sent.
      const request = new XMLHttpRequest();
      request.open("POST", `/api/upload?${new URLSearchParams({ name: file.name })}`);
      request.setRequestHeader("content-type", "application/octet-stream");
      request.responseType = "json";
      request.upload.addEventListener("progress", (event) => onProgress?.(event.loaded / event.total, "uploading"));
      request.addEventListener("load", () => {
        if (request.status === 200) resolve(request.response.trace);
        else reject(new Error(request.response?.error ?? `the server answered ${request.status}`));
      });
      request.addEventListener("error", () => reject(new Error(GONE)));
      request.addEventListener("abort", () => reject(new Error("stopped")));
      signal?.addEventListener("abort", () => request.abort());
      request.send(file);
    });
  }

  async floats(where, signal) {
    const answer = await this.fetch(where, { signal });
    const values = new Float32Array(await answer.arrayBuffer());
    return { values, shape: shapeOf(answer), sampled: answer.headers.get("x-sightline-sampled") === "1" };
  }

  async json(where, asked = {}) {
    return (await this.fetch(where, asked)).json();
  }

  async fetch(where, asked = {}) {
    const answer = await fetch(where, asked).catch(async (error) => {
      if (error.name === "AbortError") throw error;
      await stillHere();
      throw new Error(GONE);
    });
    if (answer.ok) return answer;
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error ?? `the server answered ${answer.status}`);
  }
}

const GONE = "The server does not answer: is sightline serve still running?";

/**
 * Resolves where the page stays, and never where it is being left: a browser fails what a page waits for when it
 * leaves, and that is no server's fault. Firefox does so before it tells the page.
 */
function stillHere() {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 250);
    globalThis.addEventListener?.("pagehide", () => clearTimeout(timer), { once: true });
  });
}

function traceAddress(trace) {
  return `/api/traces/${encodeURIComponent(trace)}`;
}

function callAddress({ trace, call, head }, name, query = {}) {
  return `${traceAddress(trace)}/calls/${call}/${name}?${new URLSearchParams({ head, ...query })}`;
}

function shapeOf(answer) {
  return answer.headers.get("x-sightline-shape").split(",").map(Number);
}
