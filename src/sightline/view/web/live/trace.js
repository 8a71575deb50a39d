import { Answers } from "../compute/answers.js";
import { meanRow } from "../compute/rows.js";
import { receivedOf, numbersOf, thumbnailsOf } from "./numbers.js";

const TILE = 256; // cells along each side of a tile, and of the picture from which coarse levels are made
const COARSE = 1024;
const LOOKED_AT = 256; // queries among which the one that is shown first is chosen

/** @typedef {import("../source/types.js").Tokens} Tokens */

/**
 * One run of the model as the page shows it: what Python writes into a static page is computed here when asked for.
 */
export class LiveTrace {
  /**
   * @param {import("./capture.js").Capture} capture
   * @param {{source: Tokens | null, target: Tokens | null}} tokens
   * @param {import("./lens.js").LiveLens | null} lens
   */
  constructor(capture, { source, target }, lens) {
    this.lens = lens;
    this.residual = capture.residual;
    this.sides = [source, target].filter((side) => side !== null);
    const [sourceSide, targetSide] = [0, source ? 1 : 0];
    const sides = { encoder: [sourceSide, sourceSide], decoder: [targetSide, targetSide], cross: [targetSide, sourceSide] };
    /** @type {{name: string, call: number, layer: import("../compute/head.js").Layer}[][]} */
    const sections = [];
    this.answers = new Answers();
    /** @type {{sides: number[], isSelf: boolean}[]} by call */
    this.calls = [];
    for (const section of ["encoder", "decoder", "cross"]) {
      const own = capture.calls.filter((each) => each.section === section);
      if (own.length === 0) continue;
      sections.push(
        own.map(({ name, layer }) => {
          const call = this.calls.length;
          this.calls.push({ sides: sides[section], isSelf: section !== "cross" });
          this.answers.hold(call, layer);
          layer.tensors.received = { data: receivedOf(this.answers.all(call)), shape: [layer.heads, layer.m] };
          return { name, call, layer };
        }),
      );
    }
    this.names = ["encoder", "decoder", "cross"].filter((name) => capture.calls.some((each) => each.section === name));
    this.sections = sections;
  }

  /**
   * What the page knows of the trace besides its numbers.
   * @param {{id: string, title: string, texts: string[], notices: string[], output: import("../source/types.js").Output | null}} what
   * @param {import("../source/types.js").About} like the page's own trace, of the same model
   * @returns {import("../source/types.js").About}
   */
  about({ id, title, texts, notices, output }, like) {
    const sections = this.sections.map((layers, at) => this.section(this.names[at], layers));
    const caveat = like.flows.find(({ name }) => name === "rollout")?.caveat ?? "";
    const flows = sections.filter(({ isSelf }) => isSelf).map(({ name }) => ({ name: "rollout", section: name, caveat }));
    const start = { ...like.start, query: this.tellingQuery(like.start) };
    return { ...like, id, title, texts, notices, output, sections, start, medium: null, flows, lens: this.lens?.about() ?? null };
  }

  /**
   * The query that is shown first: a word that gives one other word more of its weight than any gives; a place beside its
   * own tells little.
   * @param {{section: string, layer: number, head: number}} start
   */
  tellingQuery({ section, layer, head }) {
    const layers = this.sections[this.names.indexOf(section)];
    if (!layers) return null;
    const { call } = layers[Math.min(layer, layers.length - 1)];
    const { sides, isSelf } = this.calls[call];
    const [queries, keys] = sides.map((side) => this.sides[side]);
    const heads = this.answers.all(call);
    const shown = heads[Math.min(head, heads.length - 1)];
    let [best, most] = [null, 0];
    for (let i = 0; i < Math.min(shown.n, LOOKED_AT); i++) {
      if (queries.special[i] || !/\p{L}/u.test(queries.texts[i])) continue;
      meanRow([shown], "mean", i, i + 1).forEach((weight, j) => {
        const near = isSelf && Math.abs(i - j) <= 1;
        if (weight > most && !near && !keys.special[j]) [best, most] = [i, weight];
      });
    }
    return best;
  }

  section(name, layers) {
    const { sides, isSelf } = this.calls[layers[0].call];
    const [queries, keys] = sides.map((side) => ({ id: String(side), count: this.sides[side].texts.length, places: false }));
    return { name, isSelf, isCausal: name === "decoder", queries, keys, layers: layers.map((each) => describedLayer(each, isSelf)) };
  }

  /**
   * @param {any} asked
   * @param {(share: number) => Promise<void>} pause
   */
  answer(asked, pause) {
    if (asked.what === "lens") return this.lens.at(asked.position);
    if (asked.what === "numbers") return this.numbers(asked.call);
    if (asked.what === "thumbnails") return thumbnailsOf(this.answers.all(asked.call));
    return this.answers.answer(asked, pause);
  }

  numbers(call) {
    const { sides, isSelf } = this.calls[call];
    return numbersOf(this.answers.all(call), isSelf ? this.sides[sides[1]].texts : null);
  }
}

/** @returns {import("../source/types.js").LayerInfo} */
function describedLayer({ name, call, layer }, isSelf) {
  const { heads, n, m, offset, width, scale, softcap } = layer;
  return {
    call, name, kind: isSelf ? "self" : "cross", heads, n, m, offset, width, scale, softcap,
    verified: true, reason: "", hasValues: true, top: levelOf(n, m, TILE), coarse: levelOf(n, m, COARSE),
  };
}

function levelOf(n, m, cells) {
  let level = 0;
  while (Math.max(n, m) > cells * 2 ** level) level += 1;
  return level;
}
