import { button, element } from "../common/dom.js";
import { paintCells } from "../map/paint.js";
import { previousHead } from "./numbers.js";
import { inTurn } from "./parts.js";

const PICTURES = 48; // heads at once
const SIDE = 24; // tokens along each side of a picture: single weights can be told apart
const TILE = 256;
const MUCH = 0.25; // the weight from which on a head is said to look at the word before

/**
 * The heads side by side, as pictures: the one that looks at the word before is to be found.
 * @param {import("./steps.js").TourWalk} walk
 * @returns {Node[]}
 */
export function headHunt(walk) {
  const box = element("div", { class: "tour-hunt" }, element("p", { class: "quiet" }, "reading the heads…"));
  void fillHunt(walk, box).catch((error) => box.replaceChildren(element("p", { class: "state" }, error.message)));
  return [box];
}

/** @param {import("./steps.js").TourWalk} walk @param {HTMLElement} box */
async function fillHunt({ explorer, section, place }, box) {
  const { source, colours, subject } = explorer;
  const trace = subject.about.id;
  const calls = section.layers.map(({ call }) => call);
  const numbers = await Promise.all(calls.map((call) => source.numbers(trace, call)));
  const wanted = section.isSelf ? previousHead(numbers) : null;
  const shown = shownLayers(section.layers, [place.layer, wanted?.layer ?? place.layer]);
  const part = partAround(section.layers[place.layer], place.query);
  const pictures = await Promise.all(shown.map((layer) => picturesOf(source, trace, section.layers[layer], part)));
  const said = element("p", { class: "tour-said", role: "status" });
  const find = (layer, head) => {
    for (const each of box.querySelectorAll("button[data-head]")) each.setAttribute("aria-pressed", String(each.getAttribute("data-head") === `${layer}.${head}`));
    said.textContent = huntText({ layer, head, weight: numbers[layer].heads.previous?.[head] ?? null }, wanted);
  };
  const rows = shown.map((layer, at) => {
    const heads = pictures[at].map(({ values, height, width }, head) => {
      const picture = paintCells(values, width, height, colours.rgb, Math.sqrt);
      const made = button("", () => find(layer, head), { "data-head": `${layer}.${head}`, "aria-pressed": "false", "aria-label": `layer ${layer} head ${head}`, title: `layer ${layer} head ${head}` });
      made.append(picture);
      return inTurn(made, at + head);
    });
    return element("div", { class: "tour-heads", role: "group", "aria-label": `heads of layer ${layer}` }, element("span", { class: "quiet" }, `layer ${layer}`), ...heads);
  });
  const show = wanted ? [button("show me", () => find(wanted.layer, wanted.head), { class: "tour-show" })] : [];
  const which = part ? [element("p", { class: "quiet" }, `The pictures show the ${SIDE} tokens around the one that is followed.`)] : [];
  box.replaceChildren(...rows, ...which, element("div", { class: "tools" }, ...show, said));
}

/**
 * The part of a longer text that pictures show: around a query, inside one tile.
 * @param {{n: number, m: number, offset: number}} layer
 * @param {number} query
 * @returns {{row: number, column: number, top: number, left: number} | null} null for all of a short text
 */
export function partAround({ n, m, offset }, query) {
  if (n <= SIDE && m <= SIDE) return null;
  const along = (at, count) => {
    const tile = Math.floor(at / TILE);
    const end = Math.min(count, (tile + 1) * TILE);
    return { tile, from: Math.max(tile * TILE, Math.min(at - SIDE / 2, end - SIDE)) - tile * TILE };
  };
  const [rows, columns] = [along(query, n), along(Math.min(Math.max(query + offset, 0), m - 1), m)];
  return { row: rows.tile, column: columns.tile, top: rows.from, left: columns.from };
}

/**
 * A picture of each head of a layer.
 * @param {import("../source/types.js").Source} source
 * @param {string} trace
 * @param {import("../source/types.js").LayerInfo} layer
 * @param {ReturnType<typeof partAround>} part
 */
async function picturesOf(source, trace, { call, heads }, part) {
  if (!part) {
    const { values, height, width } = await source.thumbnails(trace, call);
    return Array.from({ length: heads }, (_, head) => ({ values: values.subarray(head * height * width, (head + 1) * height * width), height, width }));
  }
  const tile = { level: 0, row: part.row, column: part.column };
  const tiles = Array.from({ length: heads }, (_, head) => source.tile({ trace, call, head: String(head) }, tile, { reduce: "mean", quick: false }));
  return (await Promise.all(tiles)).map((each) => cutOut(each, part));
}

/**
 * A square of a tile, as much of it as there is.
 * @param {{values: Float32Array, width: number, height: number}} tile
 * @param {{top: number, left: number}} part
 */
export function cutOut({ values, width, height }, { top, left }) {
  const [across, down] = [Math.min(SIDE, width - left), Math.min(SIDE, height - top)];
  const cut = new Float32Array(across * down);
  for (let row = 0; row < down; row++) cut.set(values.subarray((top + row) * width + left, (top + row) * width + left + across), row * across);
  return { values: cut, width: across, height: down };
}

/** The layers whose heads are shown: all, where these are few, else those that matter. */
function shownLayers(layers, mattering) {
  const all = layers.reduce((sum, { heads }) => sum + heads, 0);
  if (all <= PICTURES) return layers.map((_, at) => at);
  return [...new Set(mattering)].sort((a, b) => a - b);
}

/**
 * What is said of a head that was chosen.
 * @param {{layer: number, head: number, weight: number | null}} chosen
 * @param {{layer: number, head: number, weight: number} | null} wanted
 */
export function huntText({ layer, head, weight }, wanted) {
  const name = `Layer ${layer} head ${head}`;
  if (wanted === null || weight === null) return `${name}.`;
  const gives = `${name} gives the token before ${weight.toFixed(2)} of its weight on average`;
  if (layer !== wanted.layer || head !== wanted.head) return `${gives}. Another gives it more: look for a clearer line just below the diagonal.`;
  if (wanted.weight < MUCH) return `${gives}: that is the most of any head here, and not much.`;
  return `Yes! ${gives}. The atlas tells this of every head: “show: previous token”.`;
}
