import { clip } from "./dom.js";

/** Room for the labels, CSS pixels. */
export const MARGIN = { left: 74, top: 66, right: 16 };

const LINE = 12; // a label needs this much

/**
 * Labels, the frame, the pinned row or column, and the cell under the pointer.
 * @param {CanvasRenderingContext2D} context
 * @param {import("./app.js").App} app
 * @param {import("./pool.js").Region} region
 * @param {{left: number, top: number, width: number, height: number}} plot
 * @param {{query: number, key: number} | null} cell
 */
export function drawAxes(context, app, region, plot, cell) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const { subject } = app;
  const sy = plot.height / (region.r1 - region.r0);
  const sx = plot.width / (region.c1 - region.c0);
  context.strokeStyle = colour("--line");
  context.strokeRect(plot.left + 0.5, plot.top + 0.5, plot.width - 1, plot.height - 1);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  const ink = (strong) => (context.fillStyle = colour(strong ? "--accent" : "--quiet"));
  const { unit, direction } = app.selection();
  for (const { at, text } of labels(subject.queries.texts, region.r0, region.r1, sy)) {
    ink(cell?.query === at || (direction === "to" && unit === at));
    context.textAlign = "right";
    context.fillText(text, plot.left - 5, plot.top + (at - region.r0 + 0.5) * sy);
  }
  for (const { at, text } of labels(subject.keys.texts, region.c0, region.c1, sx)) {
    ink(cell?.key === at || (direction === "from" && unit === at));
    context.save();
    context.translate(plot.left + (at - region.c0 + 0.5) * sx, plot.top - 5);
    context.rotate(-Math.PI / 3);
    context.textAlign = "left";
    context.fillText(text, 0, 0);
    context.restore();
  }
  context.strokeStyle = colour("--accent");
  context.lineWidth = 1.5;
  const clipped = (draw) => {
    context.save();
    context.beginPath();
    context.rect(plot.left, plot.top, plot.width, plot.height);
    context.clip();
    draw();
    context.restore();
  };
  clipped(() => {
    if (unit !== null && direction === "to") {
      context.strokeRect(plot.left, plot.top + (unit - region.r0) * sy, plot.width, Math.max(sy, 1));
    } else if (unit !== null) {
      context.strokeRect(plot.left + (unit - region.c0) * sx, plot.top, Math.max(sx, 1), plot.height);
    }
    if (cell) {
      const [x, y] = [plot.left + (cell.key - region.c0) * sx, plot.top + (cell.query - region.r0) * sy];
      context.strokeRect(x, y, Math.max(sx, 3), Math.max(sy, 3));
    }
  });
  context.lineWidth = 1;
}

/** Tokens where there is room for each, else numbered places a readable distance apart. */
function labels(texts, from, to, size) {
  const found = [];
  if (size >= LINE) {
    for (let at = from; at < to; at++) found.push({ at, text: clip(texts[at], 10) });
    return found;
  }
  const step = niceStep((LINE * 3) / size);
  for (let at = Math.ceil(from / step) * step; at < to; at += step) {
    found.push({ at, text: `${clip(texts[at], 4)} ${at}` });
  }
  return found;
}

/** The next of 1, 2, 5, 10, 20, 50, ... */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least) ?? power * 10;
}
