import { byId } from "./dom.js";
import { copyHead } from "./head.js";
import { drawAxes, MARGIN } from "./axes.js";
import { moved, within, zoomed } from "./region.js";

/** The matrix of the chosen head as a picture: rows are queries, columns are keys. */
export class MapView {
  /**
   * @param {import("./app.js").App} app
   * @param {(onAnswer: (answer: any) => void) => {send: (wish: any) => void}} openPainter
   */
  constructor(app, openPainter) {
    this.app = app;
    this.canvas = byId("map");
    this.progress = byId("map-progress");
    this.painter = openPainter((answer) => this.receive(answer));
    this.wish = 0;
    this.sent = null; // the subject that the painter has
    /** @type {any} the picture: its values, region and size, how many lines are done, and a canvas of it */
    this.image = null;
    this.before = null; // the last whole one, shown until this one has come
    this.quick = null; // a sampled one
    this.cell = null; // the cell under the pointer
    this.listen();
  }

  get region() {
    const { subject, store } = this.app;
    return within(store.state.region, subject.queries.count, subject.keys.count);
  }

  /** Ask for a picture of the region, unless nothing can be seen of it. */
  request() {
    const { subject, store } = this.app;
    const region = this.region;
    const { width, height } = this.plot();
    if (width < 8 || height < 8) return;
    const wish = {
      id: this.wish + 1,
      region,
      height: Math.min(region.r1 - region.r0, Math.round(height)),
      width: Math.min(region.c1 - region.c0, Math.round(width)),
      reduce: store.state.reduce,
    };
    const fresh = this.sent !== subject;
    if (fresh) {
      const units = ({ count, starts }) => ({ count, starts: starts.slice() });
      Object.assign(wish, { head: copyHead(subject.head), queries: units(subject.queries), keys: units(subject.keys) });
      this.sent = subject;
      this.image = null;
      this.before = null;
    }
    if (!fresh && this.image && same(this.image, wish)) return this.draw();
    if (this.image && this.image.done >= this.image.height) this.before = this.image;
    const blank = () => ({ ...wish, head: null, values: new Float32Array(wish.height * wish.width), done: 0 });
    this.image = blank();
    this.quick = blank();
    this.wish = wish.id;
    this.painter.send(wish);
    this.draw();
  }

  receive(answer) {
    if (answer.id !== this.wish || !this.image) return;
    const image = answer.sampled ? this.quick : this.image;
    image.values.set(answer.lines, answer.y * image.width);
    image.done = answer.y + answer.count;
    const whole = image.done >= image.height;
    if (whole) this.before = null;
    if (whole && !answer.sampled) this.quick = null;
    const share = `${Math.floor((100 * image.done) / image.height)} %`;
    this.progress.textContent = answer.sampled ? "sampling" : whole ? "" : this.quick?.done ? `exact ${share}` : share;
    this.draw();
  }

  /** Where the cells lie inside the canvas, in CSS pixels. */
  plot() {
    const box = this.canvas.getBoundingClientRect();
    return { left: MARGIN.left, top: MARGIN.top, width: box.width - MARGIN.left - MARGIN.right, height: box.height - MARGIN.top - 1 };
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, box.width, box.height);
    context.imageSmoothingEnabled = false;
    for (const image of [this.before, this.quick, this.image]) if (image) this.drawImage(context, image);
    drawAxes(context, this.app, this.region, this.plot(), this.cell);
  }

  /** The lines so far in colours; kept, because a hover draws the same picture again. */
  coloured(image) {
    const look = `${image.done} ${this.app.store.state.scale} ${document.documentElement.dataset.theme}`;
    if (image.look !== look) {
      image.look = look;
      image.canvas ??= document.createElement("canvas");
      const values = image.values.subarray(0, image.done * image.width);
      this.app.picture(image.canvas, values, image.width, image.done);
    }
    return image.canvas;
  }

  /** One picture, stretched to where its region lies in the region shown. */
  drawImage(context, image) {
    if (image.done === 0) return;
    const plot = this.plot();
    const shown = this.region;
    const part = this.coloured(image);
    const sx = plot.width / (shown.c1 - shown.c0);
    const sy = plot.height / (shown.r1 - shown.r0);
    const { r0, r1, c0, c1 } = image.region;
    const rows = ((r1 - r0) * image.done) / image.height;
    context.save();
    context.beginPath();
    context.rect(plot.left, plot.top, plot.width, plot.height);
    context.clip();
    const [x, y] = [plot.left + (c0 - shown.c0) * sx, plot.top + (r0 - shown.r0) * sy];
    context.drawImage(part, x, y, (c1 - c0) * sx, rows * sy);
    context.restore();
  }

  /** The cell, in units, under a pointer. */
  cellAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const plot = this.plot();
    const { r0, r1, c0, c1 } = this.region;
    const x = (event.clientX - box.left - plot.left) / plot.width;
    const y = (event.clientY - box.top - plot.top) / plot.height;
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return null;
    return { query: r0 + Math.floor(y * (r1 - r0)), key: c0 + Math.floor(x * (c1 - c0)), x, y };
  }

  zoom(factor, y = 0.5, x = 0.5) {
    const { subject, store } = this.app;
    store.set({ region: zoomed(this.region, factor, subject.queries.count, subject.keys.count, y, x) });
  }

  listen() {
    let drag = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, region: this.region, far: false };
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (drag && event.buttons) this.drag(drag, event);
      else this.point(this.cellAt(event));
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const cell = this.cellAt(event);
      if (drag && !drag.far && cell) {
        const { direction } = this.app.store.state;
        this.app.store.set({ pin: direction === "to" ? cell.query : cell.key });
        this.point(cell);
      }
      drag = null;
    });
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("dblclick", () => this.app.store.set({ region: null }));
    this.canvas.addEventListener(
      "wheel",
      (event) => {
        const cell = this.cellAt(event);
        // A page that is scrolled past the map must not be caught by it: the wheel zooms with Ctrl or ⌘ only.
        if (!cell || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8, cell.y, cell.x);
      },
      { passive: false },
    );
  }

  drag(drag, event) {
    const { subject, store } = this.app;
    const plot = this.plot();
    const { r0, r1, c0, c1 } = drag.region;
    const [x, y] = [event.clientX - drag.x, event.clientY - drag.y];
    drag.far ||= Math.abs(x) + Math.abs(y) > 5;
    if (!drag.far || !store.state.region) return;
    const down = -Math.round((y / plot.height) * (r1 - r0));
    const right = -Math.round((x / plot.width) * (c1 - c0));
    store.set({ region: moved(drag.region, down, right, subject.queries.count, subject.keys.count) });
  }

  point(cell) {
    if (this.cell?.query === cell?.query && this.cell?.key === cell?.key) return;
    this.cell = cell;
    this.app.explain(cell);
    this.draw();
  }
}

/** Whether a picture is the one wished for, so that it need not be made again. */
function same(image, wish) {
  const { region: a } = image;
  const { region: b } = wish;
  return (
    ["height", "width", "reduce"].every((name) => image[name] === wish[name]) &&
    ["r0", "r1", "c0", "c1"].every((name) => a[name] === b[name])
  );
}
