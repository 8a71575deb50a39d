import { element } from "../common/dom.js";
import { paintCells } from "../map/paint.js";
import { pointedCanvas, sharpContext } from "./canvas.js";
import { patchAt, patchOf } from "./medium.js";

const TALL = 420; // CSS pixels at most

/**
 * What positions of a medium show.
 * @typedef {object} MediumLook
 * @property {Float32Array | null} values of the medium's positions only; NaN: hidden
 * @property {(weight: number) => number} scale
 * @property {import("../common/colour.js").ColourMap} colours
 * @property {number | null} hovered
 * @property {number | null} chosen
 * @property {number | null} pinned
 */

/** A picture with its patches shaded. */
export class PictureFigure {
  /**
   * @param {import("../source/types.js").ImageInfo} image
   * @param {ImageData} pixels
   * @param {{onHover: (at: number | null) => void, onPin: (at: number) => void}} host
   */
  constructor(image, pixels, host) {
    this.image = image;
    this.picture = element("canvas", { width: pixels.width, height: pixels.height });
    this.picture.getContext("2d").putImageData(pixels, 0, 0);
    this.cursor = image.first;
    this.canvas = pointedCanvas({
      label: "the picture with its patches: arrows move from patch to patch, Enter pins",
      at: (x, y) => patchAt(image, x, y),
      step: (key) => this.step(key),
      onHover: (at) => {
        this.cursor = at ?? this.cursor;
        host.onHover(at);
      },
      onPin: () => host.onPin(this.cursor),
    });
    this.range = element("input", { type: "range", min: 0, max: 100, value: 65, "aria-label": "how much the shades cover the picture" });
    this.range.addEventListener("input", () => this.draw());
    this.node = element("div", { class: "picture" }, this.canvas, element("label", { class: "quiet" }, "picture", this.range, "shades"));
    /** @type {MediumLook | null} */
    this.look = null;
  }

  step(key) {
    const { rows, columns, first } = this.image;
    const { row, column } = patchOf(this.image, this.cursor) ?? { row: 0, column: 0 };
    const inside = (at, count) => Math.min(Math.max(0, at), count - 1);
    const down = { ArrowDown: 1, ArrowUp: -1 }[key] ?? 0;
    const right = { ArrowRight: 1, ArrowLeft: -1 }[key] ?? 0;
    return first + inside(row + down, rows) * columns + inside(column + right, columns);
  }

  /** @param {MediumLook} look */
  paint(look) {
    this.look = look;
    this.draw();
  }

  draw() {
    const { look, image, picture } = this;
    if (!look) return;
    const ratio = picture.height / picture.width;
    const width = Math.max(1, Math.min(this.node.clientWidth || 320, TALL / ratio));
    const height = width * ratio;
    const context = sharpContext(this.canvas, width, height);
    context.imageSmoothingEnabled = true;
    context.drawImage(picture, 0, 0, width, height);
    if (look.values) {
      const shade = (value) => look.scale(value);
      const cells = paintCells(look.values, image.columns, image.rows, look.colours.rgb, shade);
      context.imageSmoothingEnabled = false;
      context.globalAlpha = Number(this.range.value) / 100;
      context.drawImage(cells, 0, 0, width, height);
      context.globalAlpha = 1;
    }
    this.grid(context, width, height);
    for (const [name, colour] of [["hovered", "--focus"], ["chosen", "--accent"], ["pinned", "--accent"]]) this.frame(context, width, height, look[name], colour, name === "pinned" ? 4 : 2.5);
  }

  grid(context, width, height) {
    const { rows, columns } = this.image;
    context.beginPath();
    for (let row = 1; row < rows; row++) line(context, 0, (row * height) / rows, width, (row * height) / rows);
    for (let column = 1; column < columns; column++) line(context, (column * width) / columns, 0, (column * width) / columns, height);
    context.strokeStyle = "rgb(128 128 128 / 45%)";
    context.lineWidth = 0.5;
    context.stroke();
  }

  frame(context, width, height, at, colour, thick) {
    const patch = at === null ? null : patchOf(this.image, at);
    if (!patch) return;
    const [w, h] = [width / this.image.columns, height / this.image.rows];
    const box = /** @type {const} */ ([patch.column * w, patch.row * h, w, h]);
    // A light line around the coloured one is seen on any picture.
    context.lineWidth = thick + 2;
    context.strokeStyle = "#fff";
    context.strokeRect(...box);
    context.lineWidth = thick;
    context.strokeStyle = getComputedStyle(this.canvas).getPropertyValue(colour).trim();
    context.strokeRect(...box);
  }
}

function line(context, x, y, x1, y1) {
  context.moveTo(x, y);
  context.lineTo(x1, y1);
}
