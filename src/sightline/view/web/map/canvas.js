import { onLongPress, pinchOf } from "../common/touch.js";
import { axisLabels, labelRoom, labelWidth, LEAN, LETTERS } from "./labels.js";
import { paintCells } from "./paint.js";
import { insideView, levelOf, parentOf, TILE, visibleTiles, wholeView, zoomedView } from "./pyramid.js";

/**
 * What a canvas draws.
 * @typedef {object} Host
 * @property {import("../subject.js").Subject} subject
 * @property {{get: (tile: any) => any, want: (tiles: any[]) => void}} tiles
 * @property {import("./pyramid.js").MapRange | null} view null for the whole matrix
 * @property {{rgb: Uint8ClampedArray, shade: (value: number) => number, name: string}} look
 * @property {{query: Range | null, key: Range | null}} pinned
 * @property {{query: number | null, key: number | null} | null} hovered
 * @property {(view: import("./pyramid.js").MapRange | null) => void} onView
 * @property {(cell: {query: number, key: number} | null) => void} onPoint
 * @property {(cell: {query: number, key: number}, compare: boolean) => void} onPin
 * @typedef {{from: number, to: number}} Range
 */

/** One head as a zoomable picture made of tiles, with its axes: a coarser tile at once, the right one when it is here. */
export class MapCanvas {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Host} host
   */
  constructor(canvas, host) {
    this.canvas = canvas;
    this.host = host;
    this.pictures = new WeakMap();
    this.frame = 0;
    /** @type {{clientX: number, clientY: number} | null} */
    this.pointer = null;
    this.listen();
  }

  get size() {
    const { n, m, top } = this.host.subject.layer;
    return { n, m, top };
  }

  /** The cells' part of the canvas, CSS pixels. */
  get plot() {
    const { clientWidth, clientHeight } = this.canvas;
    const { n, m } = this.size;
    const { left, top, right, bottom } = labelRoom(this.host.subject, n, m, clientWidth, clientHeight);
    return { left, top, width: Math.max(0, clientWidth - left - right), height: Math.max(0, clientHeight - top - bottom) };
  }

  /** @returns {import("./pyramid.js").MapRange} */
  get shown() {
    const { width, height } = this.plot;
    const { n, m } = this.size;
    const { view } = this.host;
    return view ? insideView(view, width, height, n, m) : wholeView(width, height, n, m);
  }

  /** The queries and keys in view; null where the whole matrix is, or the map is hidden. */
  get seen() {
    const { plot, shown } = this;
    const { n, m } = this.size;
    if (!this.host.view || plot.width < 8 || plot.height < 8) return null;
    return { queries: named(shown.y, plot.height * shown.per, n), keys: named(shown.x, plot.width * shown.per, m) };
  }

  /** The tiles in view, those in the middle first. */
  get inView() {
    const { width, height } = this.plot;
    const { n, m, top } = this.size;
    const view = this.shown;
    return visibleTiles(view, width, height, levelOf(view.per, top), n, m);
  }

  /** Ask for the tiles in view and draw what is here. */
  request() {
    const { width, height } = this.plot;
    if (width < 8 || height < 8) return;
    const { top } = this.size;
    const tiles = this.inView;
    // The whole matrix in one tile is the parent of everything: there is always something to show.
    const whole = { level: top, row: 0, column: 0 };
    this.host.tiles.want(tiles[0]?.level === top ? tiles : [whole, ...tiles]);
    this.redraw();
  }

  redraw() {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.draw();
      });
    }
  }

  draw() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    const [across, down] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== across) this.canvas.width = across;
    if (this.canvas.height !== down) this.canvas.height = down;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, clientWidth, clientHeight);
    const { plot, shown } = this;
    if (plot.width < 8 || plot.height < 8) return;
    context.save();
    context.beginPath();
    context.rect(plot.left, plot.top, plot.width, plot.height);
    context.clip();
    context.translate(plot.left, plot.top);
    context.imageSmoothingEnabled = false;
    for (const tile of this.inView) this.drawTile(context, tile, shown);
    this.drawMarks(context, shown, plot);
    context.restore();
    this.drawLabels(context, shown, plot);
  }

  /** A tile, or as much of the nearest coarser one as covers it. */
  drawTile(context, tile, view) {
    const { n, m, top } = this.size;
    let from = tile;
    while (from.level < top && !this.host.tiles.get(from)) from = parentOf(from);
    const tilePicture = this.host.tiles.get(from);
    if (!tilePicture) return;
    const cell = 2 ** from.level;
    const side = TILE * 2 ** tile.level;
    const [left, upper] = [tile.column * side, tile.row * side];
    const [right, lower] = [Math.min(m, left + side), Math.min(n, upper + side)];
    const sx = (left - from.column * TILE * cell) / cell;
    const sy = (upper - from.row * TILE * cell) / cell;
    const place = [(left - view.x) / view.per, (upper - view.y) / view.per, (right - left) / view.per, (lower - upper) / view.per];
    context.drawImage(this.picture(tilePicture), sx, sy, (right - left) / cell, (lower - upper) / cell, ...place);
  }

  /** A tile in colours; kept, because a hover draws the same picture again. */
  picture(tilePicture) {
    const { look } = this.host;
    const known = this.pictures.get(tilePicture);
    if (known?.name === look.name) return known.canvas;
    const canvas = paintCells(tilePicture.values, tilePicture.width, tilePicture.height, look.rgb, look.shade);
    this.pictures.set(tilePicture, { name: look.name, canvas });
    return canvas;
  }

  drawMarks(context, view, plot) {
    context.strokeStyle = colour("--accent");
    context.lineWidth = 1.25;
    const { query, key } = this.host.pinned;
    const y = (at) => (at - view.y) / view.per;
    const x = (at) => (at - view.x) / view.per;
    if (query) context.strokeRect(-2, y(query.from), plot.width + 4, Math.max(1, y(query.to) - y(query.from)));
    if (key) context.strokeRect(x(key.from), -2, Math.max(1, x(key.to) - x(key.from)), plot.height + 4);
    const { hovered } = this.host;
    const size = Math.max(4, 1 / view.per);
    if (hovered && hovered.query !== null && hovered.key !== null) context.strokeRect(x(hovered.key), y(hovered.query), size, size);
    context.strokeStyle = colour("--line");
    context.strokeRect(x(0), y(0), x(this.size.m) - x(0), y(this.size.n) - y(0));
  }

  drawLabels(context, view, plot) {
    const { subject, pinned, hovered } = this.host;
    const { n, m } = this.size;
    const per = 1 / view.per;
    context.textBaseline = "middle";
    const pen = (at, range, under) => {
      const strong = under === at || (range !== null && at >= range.from && at < range.to);
      context.fillStyle = colour(strong ? "--accent" : "--ink");
      context.font = `${strong ? "600 " : ""}${LETTERS}px system-ui, sans-serif`;
    };
    const [corner, edge] = [plot.left + Math.max(0, -view.x * per), plot.top + Math.max(0, -view.y * per)];
    const rows = inSight(view.y, plot.height * view.per, n);
    context.textAlign = "right";
    for (const { at, text } of axisLabels(subject.queries, rows.from, rows.to, per)) {
      pen(at, pinned.query, hovered?.query);
      const y = plot.top + (at + 0.5 - view.y) * per;
      if (y >= plot.top && y <= plot.top + plot.height) context.fillText(text, corner - 7, y);
    }
    const columns = inSight(view.x, plot.width * view.per, m);
    const labels = axisLabels(subject.keys, columns.from, columns.to, per);
    const flat = labels.every(({ text }) => labelWidth(text) + 4 <= per);
    context.textAlign = flat ? "center" : "left";
    for (const { at, text } of labels) {
      const x = plot.left + (at + 0.5 - view.x) * per;
      if (x < plot.left || x > plot.left + plot.width) continue;
      pen(at, pinned.key, hovered?.key);
      context.save();
      context.translate(flat ? x : x - LETTERS / 4, edge - 9);
      if (!flat) context.rotate(LEAN);
      context.fillText(text, 0, 0);
      context.restore();
    }
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour("--quiet");
    context.textAlign = "right";
    context.fillText("key →", corner - 7, edge - 31);
    context.fillText("query ↓", corner - 7, edge - 17);
  }

  cellAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const { plot, shown } = this;
    const [px, py] = [event.clientX - box.left - plot.left, event.clientY - box.top - plot.top];
    if (px < 0 || py < 0 || px >= plot.width || py >= plot.height) return null;
    const [query, key] = [Math.floor(shown.y + py * shown.per), Math.floor(shown.x + px * shown.per)];
    const { n, m } = this.size;
    return query >= 0 && key >= 0 && query < n && key < m ? { query, key } : null;
  }

  /** What is under a pointer that rests, where the view moved under it. */
  pointAgain() {
    if (this.pointer) this.host.onPoint(this.cellAt(this.pointer));
  }

  setView(view) {
    const { width, height } = this.plot;
    const { n, m } = this.size;
    const whole = wholeView(width, height, n, m);
    this.host.onView(view === null || view.per >= whole.per ? null : insideView(view, width, height, n, m));
  }

  /** @param {number} factor below 1: closer */
  zoom(factor, px = this.plot.width / 2, py = this.plot.height / 2) {
    const { width, height } = this.plot;
    const { n, m } = this.size;
    this.setView(zoomedView(this.shown, factor, px, py, width, height, n, m));
  }

  /** @param {number} dx CSS pixels @param {number} dy */
  move(dx, dy) {
    const { x, y, per } = this.shown;
    this.setView({ x: x + dx * per, y: y + dy * per, per });
  }

  /** Bring a query or key into sight, the zoom as it is. */
  reveal({ query, key }) {
    if (!this.host.view) return;
    const { width, height } = this.plot;
    const { x, y, per } = this.shown;
    const off = (place, start, span) => place !== null && (place < start || place >= start + span * per);
    if (!off(query, y, height) && !off(key, x, width)) return;
    const [left, upper] = [off(key, x, width) ? key - (width * per) / 2 : x, off(query, y, height) ? query - (height * per) / 2 : y];
    this.setView({ x: left, y: upper, per });
  }

  /** Two fingers zoom and move at once. @param {Map<number, import("../common/touch.js").Finger>} fingers @param {PointerEvent} event */
  pinch(fingers, event) {
    const before = [...fingers.values()];
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const { factor, at, by } = pinchOf(/** @type {any} */ (before), /** @type {any} */ ([...fingers.values()]));
    const box = this.canvas.getBoundingClientRect();
    const { left, top } = this.plot;
    this.move(-by.x, -by.y);
    this.zoom(factor, at.x - box.left - left, at.y - box.top - top);
  }

  listen() {
    const { canvas } = this;
    /** @type {{x: number, y: number, far: boolean} | null} */
    let drag = null;
    /** @type {Map<number, import("../common/touch.js").Finger>} */
    const fingers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      drag = fingers.size > 1 ? null : { x: event.clientX, y: event.clientY, far: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.pointer = event;
      if (fingers.size === 2 && fingers.has(event.pointerId)) return this.pinch(fingers, event);
      if (!drag || !event.buttons) return this.host.onPoint(this.cellAt(event));
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (!drag.far && Math.abs(dx) + Math.abs(dy) < 5) return;
      drag = { x: event.clientX, y: event.clientY, far: true };
      this.move(-dx, -dy);
    });
    canvas.addEventListener("pointercancel", (event) => {
      fingers.delete(event.pointerId);
      drag = null;
    });
    // A finger that rests compares, as Shift and a click do.
    onLongPress(canvas, (event) => {
      const cell = this.cellAt(event);
      if (drag && !drag.far && cell) this.host.onPin(cell, true);
      drag = null;
    });
    canvas.addEventListener("pointerup", (event) => {
      fingers.delete(event.pointerId);
      const cell = this.cellAt(event);
      if (drag && !drag.far && cell) this.host.onPin(cell, event.shiftKey);
      drag = null;
    });
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.host.onPoint(null);
    });
    canvas.addEventListener("dblclick", () => this.setView(null));
    canvas.addEventListener(
      "wheel",
      (event) => {
        // A page that is scrolled past the map must not be caught by it: the wheel zooms with Ctrl or ⌘, or where
        // the map fills the page.
        if (!(event.ctrlKey || event.metaKey || document.body.dataset.full === "map")) return;
        event.preventDefault();
        const box = canvas.getBoundingClientRect();
        const { left, top } = this.plot;
        this.zoom(2 ** (Math.sign(event.deltaY) * 0.35), event.clientX - box.left - left, event.clientY - box.top - top);
      },
      { passive: false },
    );
  }
}

/** The places that a stretch of an axis touches. @param {number} start @param {number} span @param {number} all @returns {Range} */
function inSight(start, span, all) {
  return { from: Math.max(0, Math.floor(start)), to: Math.min(all, Math.ceil(start + span)) };
}

/** The places whose middle is there, as labels are; all that are touched, where no middle is. @param {number} start @param {number} span @param {number} all @returns {Range} */
function named(start, span, all) {
  const [from, to] = [Math.max(0, Math.ceil(start - 0.5)), Math.min(all, Math.floor(start + span + 0.5))];
  return from < to ? { from, to } : inSight(start, span, all);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
