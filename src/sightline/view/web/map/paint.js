/**
 * Values as pixels; hidden cells (NaN) stay clear.
 * @param {Float32Array} values [height * width]
 * @param {number} width
 * @param {number} height
 * @param {Uint8ClampedArray} rgb 256 colours
 * @param {(value: number) => number} shade to [0, 1]
 * @returns {HTMLCanvasElement}
 */
export function paintCells(values, width, height, rgb, shade) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let at = 0; at < values.length; at++) {
    if (Number.isNaN(values[at])) continue;
    const step = Math.round(Math.min(Math.max(shade(values[at]), 0), 1) * 255) * 3;
    image.data[at * 4] = rgb[step];
    image.data[at * 4 + 1] = rgb[step + 1];
    image.data[at * 4 + 2] = rgb[step + 2];
    image.data[at * 4 + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
