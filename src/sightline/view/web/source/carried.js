import { createAnswerer } from "../compute/answerer.js";
import { readTensor } from "../compute/tensor.js";
import { LensReader } from "./lens.js";

/** A data source: what the page carries itself. Weights are computed in a worker, from queries and keys. */
export class CarriedSource {
  /**
   * @param {any} meta
   * @param {(id: string) => string} textOf base64 text of a tensor
   * @param {(onMessage: (message: any) => void) => (request: any) => void} openAnswerer
   */
  constructor(meta, textOf, openAnswerer) {
    this.can = { read: false, upload: false, carry: true };
    this.meta = meta;
    this.textOf = textOf;
    /** @type {LensReader | undefined} */
    this.words = undefined;
    this.last = 0;
    /** @type {Map<number, {done: (answer: any) => void, failed: (error: Error) => void, onProgress?: (share: number) => void}>} */
    this.waiting = new Map();
    /** @type {Map<string, number>} of a head, how much of an exact tile is done */
    this.shares = new Map();
    /** @type {Set<number>} calls that the worker has */
    this.sent = new Set();
    this.send = openAnswerer((message) => this.receive(message));
  }

  /** What this page carries. */
  static fromPage() {
    const textOf = (id) => document.getElementById(id).textContent;
    const source = document.getElementById("sightline-worker").textContent;
    return new CarriedSource(JSON.parse(textOf("sightline-data")), textOf, (onMessage) => openWorker(source, onMessage));
  }

  async list() {
    const { id, title, model } = this.meta.about;
    return [{ id, title, model }];
  }

  async about() {
    return this.meta.about;
  }

  async tokens(_trace, side, from, count) {
    const all = this.meta.tokens[side];
    const part = (name) => all[name].slice(from, from + count);
    return { texts: part("texts"), words: part("words"), special: part("special"), glued: part("glued") };
  }

  async find(_trace, side, text, from) {
    const { texts, words } = this.meta.tokens[side];
    const places = placesOf(texts, words, text);
    const next = places.findIndex((at) => at >= from);
    return [...places.slice(next < 0 ? places.length : next), ...places.slice(0, next < 0 ? places.length : next)].slice(0, 50);
  }

  /** @param {any} place @param {any} tile @param {{reduce: string, quick: boolean, signal?: AbortSignal}} how */
  tile(place, tile, { reduce, quick, signal }) {
    const key = `${place.call} ${place.head}`;
    const asked = this.ask({ what: "tile", place, tile, how: { reduce, quick } }, [place.call], signal, (share) => {
      if (!quick) this.shares.set(key, share);
    });
    if (!quick) void asked.then(() => this.shares.delete(key), () => this.shares.delete(key));
    return asked;
  }

  /** How far the exact tile is that is computed now. */
  async progress({ call, head }) {
    return { share: this.shares.get(`${call} ${head}`) ?? 0, exact: false };
  }

  row(place, from, to, signal) {
    return this.ask({ what: "row", place, from, to }, [place.call], signal);
  }

  column(place, from, to, signal) {
    return this.ask({ what: "column", place, from, to }, [place.call], signal);
  }

  received(place, signal) {
    return this.ask({ what: "received", place }, [place.call], signal);
  }

  cell(place, query, key, signal) {
    return this.ask({ what: "cell", place, query, key }, [place.call], signal);
  }

  stages(place, query, k, signal) {
    return this.ask({ what: "stages", place, query, k }, [place.call], signal);
  }

  async numbers(_trace, call) {
    return this.meta.layers[call].numbers;
  }

  async thumbnails(_trace, call) {
    const ref = this.meta.layers[call].thumbnails;
    const [heads, height, width] = ref.shape;
    return { values: /** @type {Float32Array} */ (readTensor(ref, this.textOf)), heads, height, width };
  }

  /** @param {string} _trace @param {string} section @param {string} name @param {any} how */
  flow(_trace, section, name, { direction, from, to, signal, onProgress }) {
    const calls = this.meta.about.sections.find((each) => each.name === section).layers.map(({ call }) => call);
    return this.ask({ what: name, calls, direction, from, to }, calls, signal, onProgress);
  }

  async lens(_trace, position, _signal = undefined) {
    this.words ??= new LensReader(this.meta.lens, this.textOf);
    return this.words.at(position);
  }

  async medium() {
    const numbers = readTensor(this.meta.medium, this.textOf);
    if (numbers instanceof Float32Array) return numbers;
    const [height, width] = this.meta.medium.shape;
    return new ImageData(new Uint8ClampedArray(numbers), width, height);
  }

  /** @returns {Promise<string>} */
  read() {
    return Promise.reject(new Error("This page carries one reading; sightline serve takes others."));
  }

  /** @returns {Promise<string>} */
  upload() {
    return this.read();
  }

  /** Send a request to the worker, with the layers that it does not have yet. */
  ask(asked, calls, signal, onProgress = undefined) {
    if (signal?.aborted) return Promise.reject(new DOMException("stopped", "AbortError"));
    const id = ++this.last;
    const layers = calls.filter((call) => !this.sent.has(call)).map((call) => this.layer(call));
    for (const call of calls) this.sent.add(call);
    return new Promise((done, failed) => {
      signal?.addEventListener("abort", () => {
        this.waiting.delete(id);
        this.send({ cancel: id });
        failed(new DOMException("stopped", "AbortError"));
      });
      this.waiting.set(id, { done, failed, onProgress });
      this.send({ id, layers, ...asked });
    });
  }

  layer(call) {
    const raw = this.meta.layers[call];
    const refs = Object.values(raw.tensors).flatMap((ref) => (ref.steps ? [ref, ref.steps] : [ref]));
    return { call, raw, texts: Object.fromEntries(refs.map(({ id }) => [id, this.textOf(id)])) };
  }

  receive({ id, answer, share, error }) {
    const waiting = this.waiting.get(id);
    if (!waiting) return;
    if (share !== undefined) return waiting.onProgress?.(share);
    this.waiting.delete(id);
    if (error !== undefined) waiting.failed(new Error(error));
    else waiting.done(answer);
  }
}

/** Without case and accents: Natásha is found as natasha. */
function foldedText(text) {
  return text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
}

/** The first tokens of words that contain a text, and the tokens that do. */
function placesOf(texts, words, wanted) {
  const folded = foldedText(wanted);
  const places = [];
  for (let from = 0, to = 0; from < texts.length; from = to) {
    while (to < texts.length && words[to] === words[from]) to += 1;
    const inside = [];
    for (let at = from; at < to; at++) if (foldedText(texts[at]).includes(folded)) inside.push(at);
    if (inside.length === 0 && foldedText(texts.slice(from, to).join("")).includes(folded)) inside.push(from);
    places.push(...inside);
  }
  return places;
}

/**
 * A worker where the browser lets this page have one, else this thread, in slices short enough not to freeze it.
 * @param {string} source the worker's code
 * @param {(message: any) => void} onMessage
 * @returns {(request: any) => void}
 */
function openWorker(source, onMessage) {
  try {
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    const asked = new Map();
    const layers = [];
    let send = (request) => {
      layers.push(...(request.layers ?? []));
      if ("id" in request) asked.set(request.id, { ...request, layers });
      worker.postMessage(request);
    };
    worker.onmessage = ({ data }) => {
      if (data.share === undefined) asked.delete(data.id);
      onMessage(data);
    };
    worker.onerror = () => {
      // No worker after all: what was asked is answered here.
      send = createAnswerer(onMessage);
      for (const request of asked.values()) send(request);
    };
    return (request) => send(request);
  } catch {
    return createAnswerer(onMessage);
  }
}
