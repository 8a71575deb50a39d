import { csvOf, saveAs } from "../common/save.js";
import { cellNames, cellsInView } from "./cells.js";
import { paintCells } from "./paint.js";
import { mapSvg } from "./svg.js";

/** What the map shows, as files: exact cells, with a title, axes, scale and caveat. */
export class MapExport {
  /**
   * @param {import("../explorer.js").Explorer} explorer
   * @param {any} view the map's element
   */
  constructor(explorer, view) {
    this.explorer = explorer;
    this.view = view;
  }

  /** What is exported, in words. */
  get title() {
    const { subject } = this.explorer;
    const of = this.view.subtracts ? `${subject.name} less ${this.explorer.versus.name}` : subject.name;
    return `${subject.about.title} · ${subject.section.name} · ${of}`;
  }

  /** A name for files, without what file systems dislike. */
  get stem() {
    const { section, layerAt, head } = this.explorer.subject;
    return `attention-${section.name}-layer${layerAt}-head${head}`.replace(/[^\w.-]+/g, "-");
  }

  async cells(signal) {
    const { subject, versus, state } = this.explorer;
    const exact = (each, tile) => each.source.tile(each.place, tile, { reduce: state.reduce, quick: false, signal });
    const cells = await cellsInView(this.view.main, async (tile) => {
      const picture = await exact(subject, tile);
      if (!this.view.subtracts) return picture;
      const other = await exact(versus, tile);
      return { ...picture, values: picture.values.map((value, at) => value - other.values[at]) };
    });
    const { queries, keys } = subject;
    await Promise.all([queries.ready(cells.top, cells.bottom), keys.ready(cells.left, cells.right)]);
    return cells;
  }

  /** The cells as a drawing. */
  async svgText(signal) {
    const cells = await this.cells(signal);
    const { explorer, view } = this;
    const { subject, state } = explorer;
    const look = view.look;
    const { ends } = explorer.scale;
    const colours = view.subtracts ? explorer.differenceColours : explorer.colours;
    return mapSvg(cells, {
      queries: subject.queries,
      keys: subject.keys,
      title: this.title,
      caveat: subject.about.caveat,
      ends: view.subtracts ? [`−${ends[1]}`, `+${ends[1]}`] : ends,
      what: `${view.subtracts ? "difference of weights" : "weight"}, ${state.reduce} of cells of ${cells.cell} × ${cells.cell}`,
      css: colours.css,
      shade: look.shade,
      picture: () => paintCells(cells.values, cells.width, cells.height, look.rgb, look.shade).toDataURL("image/png"),
    });
  }

  async svg(signal) {
    saveAs(`${this.stem}.svg`, new Blob([await this.svgText(signal)], { type: "image/svg+xml" }));
  }

  /** The same drawing as pixels, twice as fine. */
  async png(signal) {
    const text = await this.svgText(signal);
    const image = new Image();
    const [width, height] = /viewBox="0 0 ([\d.]+) ([\d.]+)"/.exec(text).slice(1).map(Number);
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text.replace("<svg ", `<svg width="${2 * width}" height="${2 * height}" `))}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    saveAs(`${this.stem}.png`, blob);
  }

  /** The cells as a table: a line per row of cells. */
  async csv(signal) {
    const cells = await this.cells(signal);
    const { queries, keys, about } = this.explorer.subject;
    /** @type {(string | number)[][]} */
    const lines = [[`# ${this.title}`], [`# ${about.caveat}`], ["query \\ key", ...cellNames(keys, cells.left, cells.right, cells.cell)]];
    cellNames(queries, cells.top, cells.bottom, cells.cell).forEach((name, at) => {
      lines.push([name, ...cells.values.subarray(at * cells.width, (at + 1) * cells.width)]);
    });
    saveAs(`${this.stem}.csv`, new Blob(["\ufeff", csvOf(lines)], { type: "text/csv" }));
  }

  /** The weights of the pinned query, or to the pinned key, as a table. */
  async rowCsv(signal) {
    const { subject, state } = this.explorer;
    const to = state.direction === "to";
    const at = to ? state.query : state.key;
    const tokens = to ? subject.keys : subject.queries;
    const values = to
      ? await subject.source.row(subject.place, at, at + 1, signal)
      : await subject.source.column(subject.place, at, at + 1, signal);
    await tokens.ready(0, values.length);
    const title = `${this.title} · ${to ? "query" : "key"} #${at}`;
    /** @type {(string | number)[][]} */
    const lines = [[`# ${title}`], [`# ${subject.about.caveat}`], [to ? "key" : "query", "token", "weight"]];
    values.forEach((value, place) => lines.push([place, tokens.text(place), value]));
    saveAs(`${this.stem}-${to ? "query" : "key"}${at}.csv`, new Blob(["\ufeff", csvOf(lines)], { type: "text/csv" }));
  }
}
