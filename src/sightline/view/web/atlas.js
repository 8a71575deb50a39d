import { byId, element } from "./dom.js";

/** Every layer and head as a small picture with its mean entropy and distance; choosing one shows it. */
export class Atlas {
  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.box = byId("atlas");
    this.show = byId("atlas-show");
    /** @type {any[][]} buttons by layer and head */
    this.cells = [];
    this.show.addEventListener("change", () => this.number());
    this.box.addEventListener("click", (event) => {
      const cell = event.target.closest("button");
      if (cell) app.store.set({ layer: Number(cell.dataset.layer), head: Number(cell.dataset.head) });
    });
  }

  /** Lay the heads of a section out. */
  build() {
    const { section } = this.app.subject;
    const distance = this.show.querySelector("[value=distance]");
    distance.disabled = !section.isSelf;
    if (!section.isSelf) this.show.value = "entropy";
    const heads = Math.max(...section.layers.map((layer) => layer.heads));
    this.box.style.setProperty("--heads", String(heads));
    this.cells = section.layers.map((layer, at) =>
      Array.from({ length: layer.heads }, (_, head) => this.cell(layer, at, head)),
    );
    const head = [element("span", { class: "corner" }, "layer")];
    for (let h = 0; h < heads; h++) head.push(element("span", { class: "top" }, `h${h}`));
    const rows = this.cells.flatMap((cells, at) => {
      const blanks = Array.from({ length: heads - cells.length }, () => element("span"));
      return [element("span", { class: "side" }, String(at)), ...cells, ...blanks];
    });
    this.box.replaceChildren(...head, ...rows);
    this.number();
    this.paint();
  }

  cell(layer, at, head) {
    const [, height, width] = layer.thumbnails.shape;
    const cell = element("button", { type: "button" }, element("canvas", { width, height }), element("span"));
    cell.dataset.layer = String(at);
    cell.dataset.head = String(head);
    const apart = layer.distance ? `, mean distance ${layer.distance[head].toFixed(2)}` : "";
    const name = `layer ${at} head ${head}: mean entropy ${layer.entropy[head].toFixed(3)} nats${apart}`;
    cell.title = name;
    cell.setAttribute("aria-label", name);
    return cell;
  }

  /** Write the chosen number under every picture. */
  number() {
    const { layers } = this.app.subject.section;
    this.cells.forEach((cells, at) =>
      cells.forEach((cell, head) => {
        const values = layers[at][this.show.value];
        cell.lastChild.textContent = values[head].toFixed(values[head] < 10 ? 2 : values[head] < 100 ? 1 : 0);
      }),
    );
  }

  /** Draw every picture with the colours of now. */
  paint() {
    this.cells.forEach((cells, at) => {
      const ref = this.app.subject.section.layers[at].thumbnails;
      const pictures = this.app.data.read(ref);
      const [, height, width] = ref.shape;
      const size = height * width;
      cells.forEach((cell, head) => {
        const values = pictures.subarray(head * size, (head + 1) * size);
        this.app.picture(cell.firstChild, values, width, height);
      });
    });
    this.mark();
  }

  /** Frame the chosen head. One Tab stop for the whole atlas: the chosen head; arrows move from there. */
  mark() {
    const { layer, head } = this.app.store.state;
    this.cells.forEach((cells, at) =>
      cells.forEach((cell, h) => {
        const chosen = at === layer && h === head;
        cell.setAttribute("aria-pressed", String(chosen));
        cell.tabIndex = chosen ? 0 : -1;
        if (chosen && this.box.contains(document.activeElement) && document.activeElement !== cell) cell.focus();
      }),
    );
  }
}
