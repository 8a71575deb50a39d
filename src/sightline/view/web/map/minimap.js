const SIDE = 120; // CSS pixels of the longer side

/** The whole matrix, small, with a frame around what the map shows; click or drag to go there. */
export class Minimap {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./canvas.js").MapCanvas} map
   */
  constructor(canvas, map) {
    this.canvas = canvas;
    this.map = map;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.go(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.go(event);
    });
  }

  go(event) {
    const { n, m } = this.map.size;
    const { per } = this.map.shown;
    const { width, height } = this.map.plot;
    const x = (event.offsetX / this.canvas.clientWidth) * m - (width * per) / 2;
    const y = (event.offsetY / this.canvas.clientHeight) * n - (height * per) / 2;
    this.map.setView({ x, y, per });
  }

  draw() {
    const { n, m, top } = this.map.size;
    const whole = this.map.host.tiles.get({ level: top, row: 0, column: 0 });
    this.canvas.hidden = !this.map.host.view || !whole;
    if (this.canvas.hidden) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = m >= n ? [SIDE, Math.max(4, (SIDE * n) / m)] : [Math.max(4, (SIDE * m) / n), SIDE];
    Object.assign(this.canvas, { width: width * ratio, height: height * ratio });
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const cell = 2 ** top;
    context.drawImage(this.map.picture(whole), 0, 0, m / cell, n / cell, 0, 0, width, height);
    const { x, y, per } = this.map.shown;
    const plot = this.map.plot;
    const frame = [(x / m) * width, (y / n) * height, ((plot.width * per) / m) * width, ((plot.height * per) / n) * height];
    context.lineWidth = 2;
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
    context.strokeRect(frame[0], frame[1], Math.max(3, frame[2]), Math.max(3, frame[3]));
  }
}
