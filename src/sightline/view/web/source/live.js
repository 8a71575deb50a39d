import { CarriedSource } from "./carried.js";
import { clip } from "../common/format.js";

const KEPT = 12; // runs that are kept, besides what the page carries
const CHANGED = 3; // changes of one trace that are kept
const WARMED = 60; // letters that the model warms up on

/**
 * What a page that carries a model says of it.
 * @typedef {{model: string, config: any, task: import("../live/tasks.js").LiveTask, weights: any, tokenizer: string}} LiveDescription
 */

/**
 * Opens the worker that has the model: what it answers goes to the first function, and what breaks it to the second.
 * @typedef {(onMessage: (message: any) => void, onBroken: (error: Error) => void) => (request: any) => void} OpenWorker
 */

/** One run of the model: all that is asked of it goes to the worker that has it. */
class LiveRun extends CarriedSource {
  /** @param {any} meta @param {(onMessage: (message: any) => void) => (request: any) => void} openLine */
  constructor(meta, openLine) {
    super(meta, () => "", openLine);
    this.sent = new Set(meta.about.sections.flatMap(({ layers }) => layers.map(({ call }) => call)));
  }

  numbers(_trace, call, signal = undefined) {
    return this.ask({ what: "numbers", call }, [], signal);
  }

  lens(_trace, position, signal = undefined) {
    return this.ask({ what: "lens", position }, [], signal);
  }

  thumbnails(_trace, call, signal = undefined) {
    return this.ask({ what: "thumbnails", call }, [], signal);
  }
}

/** Lines to one worker, each with numbers of its own for what it asks. */
class WorkerLines {
  /** @param {OpenWorker} openWorker opened when something is asked */
  constructor(openWorker) {
    this.openWorker = openWorker;
    this.last = 0;
    /** @type {Map<number, {line: number, own: number, onMessage: (message: any) => void}>} */
    this.asked = new Map();
    this.lines = 0;
    /** @type {((request: any) => void) | null} */
    this.worker = null;
  }

  send(request) {
    try {
      this.worker ??= this.openWorker((message) => this.receive(message), (error) => this.broken(error));
      this.worker(request);
    } catch (error) {
      this.broken(/** @type {Error} */ (error));
    }
  }

  receive(message) {
    const from = this.asked.get(message.id);
    if (!from) return;
    if (message.share === undefined && message.told === undefined) this.asked.delete(message.id);
    from.onMessage({ ...message, id: from.own });
  }

  /** Without its worker nothing that was asked will be answered. @param {Error} error */
  broken({ message }) {
    this.worker = null;
    for (const id of [...this.asked.keys()]) this.receive({ id, error: `The model cannot run in this browser: ${message}` });
  }

  /** @param {Object<string, any>} always goes with each request */
  open(always) {
    const line = ++this.lines;
    return (onMessage) => (request) => {
      if ("cancel" in request) return this.cancel(line, request.cancel);
      const id = ++this.last;
      this.asked.set(id, { line, own: request.id, onMessage });
      this.send({ ...request, ...always, id });
    };
  }

  cancel(line, own) {
    for (const [id, asked] of this.asked) {
      if (asked.line !== line || asked.own !== own) continue;
      this.asked.delete(id);
      this.send({ cancel: id });
    }
  }
}

/**
 * A data source: what the page carries, and what the model that it carries makes of other texts.
 * Of each run a trace is kept, so that runs can be compared.
 */
export class LiveSource {
  /**
   * @param {CarriedSource} carried
   * @param {LiveDescription} described
   * @param {(id: string) => string} textOf
   * @param {OpenWorker} openWorker
   */
  constructor(carried, described, textOf, openWorker) {
    this.can = { ...carried.can, live: true };
    this.carried = carried;
    this.described = described;
    this.textOf = textOf;
    this.lines = new WorkerLines(openWorker);
    this.asking = new Asking(this.lines.open({}));
    /** @type {Map<string, LiveRun>} */
    this.runs = new Map();
    this.count = 0;
    /** @type {Promise<any> | null} */
    this.opening = null;
    this.warming = new AbortController();
  }

  /** What this page carries; null where it carries no model. @param {CarriedSource} carried */
  static fromPage(carried) {
    const description = document.getElementById("sightline-live");
    if (!description) return null;
    const textOf = (id) => document.getElementById(id).textContent;
    return new LiveSource(carried, JSON.parse(description.textContent), textOf, (onMessage, onBroken) => {
      const worker = new Worker(URL.createObjectURL(new Blob([textOf("sightline-live-worker")], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => onMessage(data);
      worker.onerror = ({ message }) => onBroken(new Error(message ?? "its worker does not start"));
      return (request) => worker.postMessage(request);
    });
  }

  /** The worker has the model; asked for once. @returns {Promise<any>} */
  open() {
    if (this.opening === null) {
      const { weights, tokenizer, ...described } = this.described;
      const blocks = weights.blocks.map(({ id, ...block }) => ({ ...block, text: this.textOf(id) }));
      const asked = { what: "open", described, weights: { ...weights, blocks }, tokenizer: JSON.parse(this.textOf(tokenizer)) };
      this.opening = this.asking.ask(asked);
      this.opening.catch(() => (this.opening = null));
    }
    return this.opening;
  }

  /** The worker has the model and has run it once, over the text that the page begins with; whatever is asked ends that. */
  async warm() {
    await this.open();
    const [text = ""] = this.carried.meta.about.texts;
    // What cannot be run is told when it is asked for.
    await this.asking.ask({ what: "warm", text: clip(text, WARMED) }, this.warming.signal).catch(() => {});
  }

  /** The worker has the model, and nothing else to do. */
  ready() {
    this.warming.abort();
    return this.open();
  }

  /**
   * The model runs over a text.
   * @param {{text: string, changes?: any[], signal?: AbortSignal, onToken?: (told: {text: string, count: number}) => void}} what
   *   `onToken` hears of the text so far each time that it has grown, or turned out otherwise
   * @returns {Promise<{trace: string, output: import("../live/session.js").LiveOutput}>}
   */
  async run({ text, changes = [], signal, onToken }) {
    await this.ready();
    const trace = `live-${++this.count}`;
    const title = clip(text.split(/\s+/).join(" ").trim(), 60);
    const like = this.carried.meta.about;
    const { about, sides, output } = await this.asking.ask({ what: "run", text, changes, trace, title, like }, signal, onToken);
    const tokens = Object.fromEntries(sides.map((side, at) => [String(at), side]));
    this.runs.set(trace, new LiveRun({ about, tokens, output, layers: [] }, this.lines.open({ trace })));
    if (this.runs.size > KEPT) this.forget(this.runs.keys().next().value);
    return { trace, output };
  }

  /**
   * How likely an answer to a text is under changes; see LiveSession. @param {any} what @param {AbortSignal} [signal]
   * @returns {Promise<number>}
   */
  async score(what, signal) {
    await this.ready();
    return (await this.asking.ask({ what: "score", ...what }, signal)).score;
  }

  /**
   * The text of a trace once more, with changes.
   * @param {string} trace
   * @param {any[]} changes
   * @param {any} how
   */
  async whatIf(trace, changes, { signal }) {
    await this.ready();
    const base = this.baseOf(trace);
    const changed = `live-${++this.count}`;
    const title = `${this.of(trace).meta.about.title} · what if`;
    const asked = { what: "whatIf", ...base, changes, trace: changed, title, like: this.carried.meta.about };
    const { about, sides, before, after } = await this.asking.ask(asked, signal);
    const tokens = Object.fromEntries(sides.map((side, at) => [String(at), side]));
    const older = [...this.runs].filter(([, run]) => run.meta.of === trace).slice(0, 1 - CHANGED);
    for (const [id] of older) this.forget(id);
    this.runs.set(changed, new LiveRun({ about, tokens, output: null, layers: [], of: trace }, this.lines.open({ trace: changed })));
    return { trace: changed, before, after };
  }

  /**
   * What each head does to the answer.
   * @param {string} trace
   * @param {any} how
   */
  async effects(trace, { onProgress, signal }) {
    await this.ready();
    const asked = { what: "effects", ...this.baseOf(trace) };
    return this.asking.ask(asked, signal, ({ share, what }) => onProgress?.(share, what));
  }

  /** What the worker needs to run a trace again; see live/whatif.js. @param {string} trace */
  baseOf(trace) {
    const { about, of } = this.of(trace).meta;
    if (of) throw new Error("This trace is a change itself: change the one that it came from.");
    const { texts, output, sections } = about;
    return { text: texts[0] ?? "", ids: this.outputOf(trace)?.ids ?? null, answer: output?.given ? output.text : null, count: sections.at(-1).queries.count };
  }

  /** What came out of a run that is kept. @param {string} trace @returns {import("../live/session.js").LiveOutput | null} */
  outputOf(trace) {
    return this.runs.get(trace)?.meta.output ?? null;
  }

  forget(trace) {
    this.runs.delete(trace);
    void this.asking.ask({ what: "forget", trace });
  }

  /** Who knows of a trace. @param {string} trace */
  of(trace) {
    return this.runs.get(trace) ?? this.carried;
  }

  async list() {
    const lists = [await this.carried.list(), ...(await Promise.all([...this.runs.values()].map((run) => run.list())))];
    return lists.flat();
  }

  async about(trace) {
    const run = this.of(trace);
    const about = await run.about();
    return this.described.task.answer === "states" ? about : { ...about, whatIf: { of: run.meta.of ?? null } };
  }

  tokens(trace, side, from, count) {
    return this.of(trace).tokens(trace, side, from, count);
  }

  find(trace, side, text, from) {
    return this.of(trace).find(trace, side, text, from);
  }

  tile(place, tile, how) {
    return this.of(place.trace).tile(place, tile, how);
  }

  progress(place) {
    return this.of(place.trace).progress(place);
  }

  row(place, from, to, signal) {
    return this.of(place.trace).row(place, from, to, signal);
  }

  column(place, from, to, signal) {
    return this.of(place.trace).column(place, from, to, signal);
  }

  received(place, signal) {
    return this.of(place.trace).received(place, signal);
  }

  cell(place, query, key, signal) {
    return this.of(place.trace).cell(place, query, key, signal);
  }

  stages(place, query, k, signal) {
    return this.of(place.trace).stages(place, query, k, signal);
  }

  numbers(trace, call, signal) {
    return this.of(trace).numbers(trace, call, signal);
  }

  thumbnails(trace, call, signal) {
    return this.of(trace).thumbnails(trace, call, signal);
  }

  flow(trace, section, name, how) {
    return this.of(trace).flow(trace, section, name, how);
  }

  lens(trace, position, signal) {
    return this.of(trace).lens(trace, position, signal);
  }

  medium(trace) {
    return this.of(trace).medium();
  }

  read() {
    return this.carried.read();
  }

  upload() {
    return this.carried.upload();
  }
}

/** Questions to the worker, each answered once; on the way it may tell what is known so far. */
class Asking {
  /** @param {(onMessage: (message: any) => void) => (request: any) => void} openLine */
  constructor(openLine) {
    this.last = 0;
    /** @type {Map<number, {done: (answer: any) => void, failed: (error: Error) => void, onTold?: (told: any) => void}>} */
    this.waiting = new Map();
    this.send = openLine((message) => this.receive(message));
  }

  /** @param {any} asked @param {AbortSignal} [signal] @param {(told: any) => void} [onTold] @returns {Promise<any>} */
  ask(asked, signal, onTold) {
    const id = ++this.last;
    return new Promise((done, failed) => {
      const stop = () => {
        this.waiting.delete(id);
        this.send({ cancel: id });
        failed(new DOMException("stopped", "AbortError"));
      };
      if (signal?.aborted) return failed(new DOMException("stopped", "AbortError"));
      signal?.addEventListener("abort", stop);
      this.waiting.set(id, { done, failed, onTold });
      this.send({ id, ...asked });
    });
  }

  receive({ id, answer, told, error }) {
    const waiting = this.waiting.get(id);
    if (!waiting) return;
    if (told !== undefined) return waiting.onTold?.(told);
    if (answer === undefined && error === undefined) return;
    this.waiting.delete(id);
    if (error !== undefined) waiting.failed(new Error(error));
    else waiting.done(answer);
  }
}
