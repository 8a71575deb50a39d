import { element } from "../common/dom.js";
import { niceStep } from "../common/format.js";
import { pointedCanvas, sharpContext } from "./canvas.js";
import { momentAt } from "./medium.js";

const STRIP = 42; // CSS pixels: weights over time
const TALL = 150; // the spectrogram
const AXIS = 20;

/** A spectrogram over time, with a strip of weights above it. */
export class SoundFigure {
  /**
   * @param {import("../source/types.js").SoundInfo} sound
   * @param {Float32Array} spectrogram [frames * bins]
   * @param {{onHover: (at: number | null) => void, onPin: (at: number) => void}} host
   */
  constructor(sound, spectrogram, host) {
    this.sound = sound;
    this.picture = spectrogramCanvas(spectrogram, sound.frames, sound.bins);
    this.cursor = sound.first;
    this.canvas = pointedCanvas({
      label: "the sound over time, its weights above its spectrogram: left and right arrows move, Enter pins",
      at: (x) => momentAt(sound, x),
      step: (key) => Math.min(Math.max(sound.first, this.cursor + ({ ArrowRight: 1, ArrowLeft: -1 }[key] ?? 0)), sound.first + sound.count - 1),
      onHover: (at) => {
        this.cursor = at ?? this.cursor;
        host.onHover(at);
      },
      onPin: () => host.onPin(this.cursor),
    });
    this.node = element("div", { class: "sound" }, this.canvas);
    /** @type {import("./picture.js").MediumLook | null} */
    this.look = null;
  }

  /** @param {import("./picture.js").MediumLook} look */
  paint(look) {
    this.look = look;
    this.draw();
  }

  draw() {
    if (!this.look) return;
    const width = this.node.clientWidth || 320;
    const context = sharpContext(this.canvas, width, STRIP + TALL + AXIS);
    if (this.look.values) this.strip(context, width, this.look.values);
    context.drawImage(this.picture, 0, STRIP, width, TALL);
    this.axis(context, width);
    for (const [name, colour] of [["hovered", "--focus"], ["chosen", "--accent"], ["pinned", "--accent"]]) this.frame(context, width, this.look[name], colour, name === "pinned" ? 3 : 1.5);
  }

  /** Bars, one a pixel column: the largest weight of its positions. */
  strip(context, width, values) {
    const { scale, colours } = this.look;
    const lines = Math.min(Math.floor(width), values.length);
    for (let x = 0; x < lines; x++) {
      const [from, to] = [Math.floor((x * values.length) / lines), Math.floor(((x + 1) * values.length) / lines)];
      let most = 0;
      for (let at = from; at < to; at++) if (values[at] > most) most = values[at];
      const t = Math.min(1, Math.max(0, scale(most)));
      const high = Math.max(t > 0 ? 1 : 0, t * (STRIP - 2));
      context.fillStyle = colours.css(Math.max(0.25, t));
      context.fillRect((x * width) / lines, STRIP - high, Math.max(1, width / lines), high);
    }
  }

  axis(context, width) {
    const { seconds } = this.sound;
    const style = getComputedStyle(this.canvas);
    context.fillStyle = style.getPropertyValue("--quiet").trim();
    context.font = `11px ${style.fontFamily}`;
    context.textBaseline = "top";
    const step = niceStep((seconds * 60) / width);
    for (let at = 0; at * step < seconds; at++) {
      const x = (at * step * width) / seconds;
      const label = `${Number((at * step).toPrecision(6))} s`;
      context.fillRect(x, STRIP + TALL, 1, 4);
      if (x + context.measureText(label).width < width) context.fillText(label, x + 3, STRIP + TALL + 4);
    }
  }

  frame(context, width, at, colour, thick) {
    const { first, count } = this.sound;
    if (at === null || at < first || at >= first + count) return;
    const span = Math.max(2, width / count);
    context.lineWidth = thick;
    context.strokeStyle = getComputedStyle(this.canvas).getPropertyValue(colour).trim();
    context.strokeRect(((at - first) * width) / count, 1, span, STRIP + TALL - 2);
  }
}

/** Loud is dark, time goes right, high is up: the 1st and 99th of 100 parts of the values are its ends. */
function spectrogramCanvas(values, frames, bins) {
  const canvas = element("canvas", { width: frames, height: bins });
  const image = new ImageData(frames, bins);
  const sorted = Float32Array.from(values).sort();
  const [low, high] = [sorted[Math.floor(sorted.length * 0.01)], sorted[Math.floor(sorted.length * 0.99)]];
  for (let frame = 0; frame < frames; frame++) {
    for (let bin = 0; bin < bins; bin++) {
      const share = (values[frame * bins + bin] - low) / (high - low || 1);
      const at = ((bins - 1 - bin) * frames + frame) * 4;
      const grey = 250 - 220 * Math.min(Math.max(0, share), 1);
      image.data.set([grey, grey, grey, 255], at);
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
