import { element } from "../common/dom.js";

/**
 * A canvas on which positions are pointed at, by pointer or keyboard.
 * @param {object} host
 * @param {string} host.label
 * @param {(x: number, y: number) => number | null} host.at the position at a point, both from 0 to 1
 * @param {(key: string) => number | null} host.step the position that an arrow key leads to
 * @param {(at: number | null) => void} host.onHover
 * @param {() => void} host.onPin the position last hovered
 * @returns {HTMLCanvasElement}
 */
export function pointedCanvas({ label, at, step, onHover, onPin }) {
  const canvas = element("canvas", { tabindex: 0, role: "img", "aria-label": label, "data-own-arrows": true, class: "medium" });
  const under = (event) => at(event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientHeight);
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") onHover(under(event));
  });
  canvas.addEventListener("pointerleave", () => onHover(null));
  canvas.addEventListener("blur", () => onHover(null));
  canvas.addEventListener("click", (event) => {
    onHover(under(event));
    onPin();
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const arrow = event.key.startsWith("Arrow");
    if (!arrow && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (arrow) onHover(step(event.key));
    else onPin();
  });
  return canvas;
}

/**
 * Make a canvas as fine as the screen; a context that counts in CSS pixels.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width CSS pixels
 * @param {number} height
 */
export function sharpContext(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    Object.assign(canvas, { width: w, height: h });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
