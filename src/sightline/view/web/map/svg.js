import { xmlText } from "../common/save.js";
import { axisLabels } from "./labels.js";

const SIDE = 640; // of the plot's longer side
const ROOM_LEFT = 90;
const ROOM_TOP = 110;
const EACH = 4096; // up to so many cells each is a rectangle of its own, above them one picture

/**
 * The cells of a map as a drawing: cells, tokens along both axes, what is shown, and the measure's caveat.
 * @param {import("./cells.js").Cells} cells
 * @param {{queries: any, keys: any, title: string, caveat: string, ends: [string, string], what: string,
 *   css: (t: number) => string, shade: (value: number) => number, picture: () => string}} about
 *   `picture` gives the cells as a data: address
 * @returns {string}
 */
export function mapSvg(cells, about) {
  const scale = SIDE / Math.max(cells.right - cells.left, cells.bottom - cells.top);
  const [width, height] = [(cells.right - cells.left) * scale, (cells.bottom - cells.top) * scale];
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${Math.max(ROOM_LEFT + width + 20, 420)} ${ROOM_TOP + height + 80}" font-family="sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="12" y="20" font-size="14" font-weight="600">${xmlText(about.title)}</text>`,
    `<g transform="translate(${ROOM_LEFT} ${ROOM_TOP})">`,
    cells.values.length <= EACH ? rectangles(cells, about, scale) : picture(about, width, height),
    `<rect width="${width}" height="${height}" fill="none" stroke="#888888"/>`,
    ...labels(cells, about, scale),
    legend(about, height),
    `</g></svg>`,
  ];
  return parts.join("\n");
}

function rectangles(cells, about, scale) {
  const drawn = [];
  const size = cells.cell * scale;
  for (let at = 0; at < cells.values.length; at++) {
    const value = cells.values[at];
    if (Number.isNaN(value)) continue;
    const [row, column] = [Math.floor(at / cells.width), at % cells.width];
    const place = `x="${round(column * size)}" y="${round(row * size)}" width="${round(size)}" height="${round(size)}"`;
    drawn.push(`<rect ${place} fill="${about.css(about.shade(value))}"><title>${value.toPrecision(4)}</title></rect>`);
  }
  return `<g shape-rendering="crispEdges">${drawn.join("")}</g>`;
}

function picture(about, width, height) {
  return `<image width="${width}" height="${height}" preserveAspectRatio="none" style="image-rendering:pixelated" href="${about.picture()}"/>`;
}

function labels(cells, about, scale) {
  const rows = axisLabels(about.queries, cells.top, cells.bottom, scale).map(({ at, text }) => {
    return `<text x="-6" y="${round((at + 0.5 - cells.top) * scale + 4)}" text-anchor="end">${xmlText(text)}</text>`;
  });
  const columns = axisLabels(about.keys, cells.left, cells.right, scale).map(({ at, text }) => {
    const x = round((at + 0.5 - cells.left) * scale);
    return `<text transform="translate(${x} -6) rotate(-60)">${xmlText(text)}</text>`;
  });
  return [...rows, ...columns];
}

function legend(about, height) {
  const stops = Array.from({ length: 17 }, (_, at) => `<stop offset="${at / 16}" stop-color="${about.css(at / 16)}"/>`);
  return [
    `<defs><linearGradient id="scale">${stops.join("")}</linearGradient></defs>`,
    `<rect y="${height + 16}" width="160" height="10" fill="url(#scale)" stroke="#888888"/>`,
    `<text y="${height + 40}">${xmlText(about.ends[0])}</text>`,
    `<text x="160" y="${height + 40}" text-anchor="end">${xmlText(about.ends[1])}</text>`,
    `<text x="172" y="${height + 25}">${xmlText(about.what)}</text>`,
    `<text y="${height + 58}" font-size="9" fill="#555555">${xmlText(about.caveat)}</text>`,
  ].join("");
}

function round(value) {
  return Math.round(value * 100) / 100;
}
