import { levelOf, insideView, parentOf, TILE, visibleTiles, wholeView, zoomedView } from "./pyramid.js";

/** One head as a zoomable picture made of tiles: a coarser tile at once, the right one when it is here. */
export class MapView {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./tiles.js").Tiles} tiles
   * @param {{onPoint: (cell: any) => void, onPin: (cell: any) => void, onView: (view: any) => void}} told
   */
  constructor(canvas, tiles, told) {
    Object.assign(this, { canvas, tiles, told });
    this.size = { n: 1, m: 1, top: 0 };
    /** @type {import("./pyramid.js").View | null} null: the whole matrix */
    this.view = null;
    this.look = { colours: null, scale: null, name: "", pin: null };
    this.pictures = new WeakMap();
    this.cell = null;
    this.frame = 0;
    this.listen();
  }

  get box() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  get shown() {
    const { width, height } = this.box;
    const { n, m } = this.size;
    return this.view ? insideView(this.view, width, height, n, m) : wholeView(width, height, n, m);
  }

  /** Ask for the tiles in view and draw what is here. */
  request() {
    const { width, height } = this.box;
    if (!width || !height) return;
    const { n, m, top } = this.size;
    const view = this.shown;
    const level = levelOf(view.per, top);
    const tiles = visibleTiles(view, width, height, level, n, m);
    // The whole matrix in one tile is the parent of everything: there is always something to show.
    this.tiles.want(level < top ? [{ level: top, row: 0, column: 0 }, ...tiles] : tiles);
    this.redraw();
  }

  redraw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => ((this.frame = 0), this.draw()));
  }

  /** The largest value among the tiles in view; null while none is here. */
  most() {
    const { width, height } = this.box;
    const level = levelOf(this.shown.per, this.size.top);
    let most = null;
    for (const tile of visibleTiles(this.shown, width, height, level, this.size.n, this.size.m)) {
      const found = this.tiles.get(tile);
      if (!found) continue;
      found.most ??= found.values.reduce((high, value) => (value > high ? value : high), 0);
      most = Math.max(most ?? 0, found.most);
    }
    return most;
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.box;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== across || this.canvas.height !== down) Object.assign(this.canvas, { width: across, height: down });
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    const view = this.shown;
    const { n, m, top } = this.size;
    for (const tile of visibleTiles(view, width, height, levelOf(view.per, top), n, m)) this.drawTile(context, tile, view);
    this.drawMarks(context, view, width, height);
  }

  /** A tile, or as much of the nearest coarser one as covers it. */
  drawTile(context, tile, view) {
    let from = tile;
    while (from.level < this.size.top && !this.tiles.get(from)) from = parentOf(from);
    const found = this.tiles.get(from);
    if (!found) return;
    const cell = 2 ** from.level;
    const side = TILE * 2 ** tile.level;
    const [left, top] = [tile.column * side, tile.row * side];
    const [right, bottom] = [Math.min(this.size.m, left + side), Math.min(this.size.n, top + side)];
    const sx = (left - from.column * TILE * cell) / cell;
    const sy = (top - from.row * TILE * cell) / cell;
    const place = [(left - view.x) / view.per, (top - view.y) / view.per, (right - left) / view.per, (bottom - top) / view.per];
    context.drawImage(this.picture(found), sx, sy, (right - left) / cell, (bottom - top) / cell, ...place);
  }

  picture(found) {
    const known = this.pictures.get(found);
    if (known?.look === this.look.name) return known.canvas;
    const { values, width, height } = found;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const image = new ImageData(width, height);
    const { rgb } = this.look.colours;
    for (let at = 0; at < values.length; at++) {
      if (Number.isNaN(values[at])) continue; // may not look: nothing there
      const step = Math.round(Math.min(Math.max(this.look.scale.of(values[at]), 0), 1) * 255) * 3;
      image.data.set([rgb[step], rgb[step + 1], rgb[step + 2], 255], at * 4);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    this.pictures.set(found, { look: this.look.name, canvas });
    return canvas;
  }

  drawMarks(context, view, width, height) {
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    const size = Math.max(1, 1 / view.per);
    const { pin } = this.look;
    context.lineWidth = 1.25;
    if (pin?.query != null) context.strokeRect(-2, (pin.query - view.y) / view.per, width + 4, size);
    if (pin?.key != null) context.strokeRect((pin.key - view.x) / view.per, -2, size, height + 4);
    if (this.cell) {
      const [x, y] = [(this.cell.key - view.x) / view.per, (this.cell.query - view.y) / view.per];
      context.strokeRect(x, y, Math.max(size, 4), Math.max(size, 4));
    }
  }

  cellAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const view = this.shown;
    const query = Math.floor(view.y + (event.clientY - box.top - this.canvas.clientTop) * view.per);
    const key = Math.floor(view.x + (event.clientX - box.left - this.canvas.clientLeft) * view.per);
    const { n, m } = this.size;
    return query >= 0 && key >= 0 && query < n && key < m ? { query, key } : null;
  }

  setView(view) {
    const { width, height } = this.box;
    const { n, m } = this.size;
    const whole = wholeView(width, height, n, m);
    this.view = view === null || view.per >= whole.per ? null : insideView(view, width, height, n, m);
    this.request();
    this.told.onView(this.view);
  }

  zoom(factor, px = this.box.width / 2, py = this.box.height / 2) {
    const { width, height } = this.box;
    this.setView(zoomedView(this.shown, factor, px, py, width, height, this.size.n, this.size.m));
  }

  move(dx, dy) {
    const view = this.shown;
    this.setView({ ...view, x: view.x + dx * view.per, y: view.y + dy * view.per });
  }

  /** Bring a cell into sight, the zoom as it is. */
  reveal({ query, key }) {
    if (!this.view) return;
    const { width, height } = this.box;
    const { x, y, per } = this.shown;
    const off = (place, start, span) => place !== null && (place < start || place >= start + span * per);
    if (!off(query, y, height) && !off(key, x, width)) return;
    this.setView({ x: off(key, x, width) ? key - (width * per) / 2 : x, y: off(query, y, height) ? query - (height * per) / 2 : y, per });
  }

  listen() {
    let drag = null;
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, far: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drag && event.buttons) {
        const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
        if (!drag.far && Math.abs(dx) + Math.abs(dy) < 5) return;
        drag = { x: event.clientX, y: event.clientY, far: true };
        this.move(-dx, -dy);
      } else this.point(this.cellAt(event));
    });
    canvas.addEventListener("pointerup", (event) => {
      const cell = this.cellAt(event);
      if (drag && !drag.far && cell) this.told.onPin(cell);
      drag = null;
    });
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("dblclick", () => this.setView(null));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoom(2 ** (Math.sign(event.deltaY) * 0.35), event.offsetX, event.offsetY);
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-60, 0], ArrowRight: [60, 0], ArrowUp: [0, -60], ArrowDown: [0, 60] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.move(step[0], step[1]);
    });
  }

  point(cell) {
    if (this.cell?.query === cell?.query && this.cell?.key === cell?.key) return;
    this.cell = cell;
    this.redraw();
    this.told.onPoint(cell);
  }
}
