const AT_ONCE = 2;

/**
 * Something of one layer that the atlas needs.
 * @typedef {{trace: string, call: number, kind: "numbers" | "thumbnails"}} LayerJob
 */

/** Fetches numbers and thumbnails by layer, a few at once: what is in sight first, then what a sort waits for. */
export class LayerLoader {
  /**
   * @param {import("../source/types.js").Source} source
   * @param {(job: LayerJob) => void} onSettled a job is done, or has failed
   */
  constructor(source, onSettled) {
    this.source = source;
    this.onSettled = onSettled;
    /** @type {Map<string, any>} */
    this.kept = new Map();
    /** @type {Map<string, Error>} */
    this.errors = new Map();
    /** @type {Map<string, AbortController>} */
    this.running = new Map();
    /** @type {LayerJob[]} */
    this.sight = [];
    /** @type {LayerJob[]} */
    this.waited = [];
    /** @type {Set<() => void>} those who wait for many jobs */
    this.waiters = new Set();
  }

  /** @param {LayerJob} job */
  get(job) {
    return this.kept.get(nameOf(job));
  }

  /** Why a job failed. @param {LayerJob} job */
  error(job) {
    return this.errors.get(nameOf(job));
  }

  /** What is in sight now; what no one needs any more is stopped. @param {LayerJob[]} jobs */
  want(jobs) {
    this.sight = jobs;
    const needed = new Set([...jobs, ...this.waited].map(nameOf));
    for (const [name, controller] of this.running) if (!needed.has(name)) controller.abort();
    this.pump();
  }

  /** Forget what failed, and try it again. */
  again() {
    this.errors.clear();
    this.pump();
  }

  /**
   * Wait for all of these, behind what is in sight.
   * @param {LayerJob[]} jobs
   * @param {AbortSignal} signal
   * @param {(share: number) => void} onProgress
   * @returns {Promise<void>}
   */
  all(jobs, signal, onProgress) {
    this.errors.clear();
    this.waited = jobs;
    return new Promise((resolve, reject) => {
      const end = (/** @type {() => void} */ settle) => {
        this.waiters.delete(check);
        if (this.waited === jobs) this.waited = [];
        this.want(this.sight);
        settle();
      };
      const check = () => {
        const failed = jobs.map((job) => this.error(job)).find(Boolean);
        const done = jobs.filter((job) => this.kept.has(nameOf(job))).length;
        onProgress(done / jobs.length);
        if (failed) end(() => reject(failed));
        else if (done === jobs.length) end(resolve);
      };
      signal.addEventListener("abort", () => end(() => reject(new Error("stopped"))));
      this.waiters.add(check);
      this.pump();
      check();
    });
  }

  pump() {
    for (const job of [...this.sight, ...this.waited]) {
      if (this.running.size >= AT_ONCE) return;
      const name = nameOf(job);
      if (!this.kept.has(name) && !this.errors.has(name) && !this.running.has(name)) void this.run(name, job);
    }
  }

  /** @param {string} name @param {LayerJob} job */
  async run(name, job) {
    const controller = new AbortController();
    this.running.set(name, controller);
    const { trace, call, kind } = job;
    try {
      const kept = await this.source[kind](trace, call, controller.signal);
      this.kept.set(name, kept);
    } catch (error) {
      if (!controller.signal.aborted) this.errors.set(name, /** @type {Error} */ (error));
    }
    this.running.delete(name);
    this.onSettled(job);
    for (const check of [...this.waiters]) check();
    this.pump();
  }
}

/** @param {LayerJob} job */
function nameOf({ trace, call, kind }) {
  return `${kind} ${call} ${trace}`;
}
