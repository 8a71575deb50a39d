// Two sequential maps, equal steps of lightness: on paper more weight is more ink, on a dark page more light.
const LIGHT = ["#fbfaec", "#dcebb0", "#95d18b", "#44ad8c", "#27808f", "#34528b", "#3d1f63"];
const DARK = ["#17132a", "#35306a", "#2e5a8a", "#24868d", "#36b07c", "#97d549", "#fbe723"];
// Differences: blue for less, red for more, nothing in the middle.
const LESS_MORE = ["#1f4e9c", "#6f9fd8", "#f7f7f5", "#e0857a", "#a3152a"];
const LESS_MORE_DARK = ["#8fc1ff", "#3b6bb0", "#17171f", "#b04a4f", "#ffab9e"];
const STEPS = 256;

/**
 * A sequential colour map.
 * @typedef {object} ColourMap
 * @property {Uint8ClampedArray} rgb [256 * 3]
 * @property {(t: number) => string} css colour at t in [0, 1]
 * @property {(t: number) => string} ink a colour for text that is readable on it
 */

/**
 * @param {boolean} dark
 * @returns {ColourMap}
 */
export function colourMap(dark) {
  return between(dark ? DARK : LIGHT);
}

/**
 * A diverging colour map: 0 is the most negative, 0.5 none, 1 the most positive.
 * @param {boolean} dark
 * @returns {ColourMap}
 */
export function differenceMap(dark) {
  return between(dark ? LESS_MORE_DARK : LESS_MORE);
}

/**
 * Colours at equal steps, and all between.
 * @param {string[]} hexes
 * @returns {ColourMap}
 */
function between(hexes) {
  const anchors = hexes.map(hexToRgb);
  const rgb = new Uint8ClampedArray(STEPS * 3);
  for (let step = 0; step < STEPS; step++) {
    const place = (step / (STEPS - 1)) * (anchors.length - 1);
    const at = Math.min(Math.floor(place), anchors.length - 2);
    for (let c = 0; c < 3; c++) {
      rgb[step * 3 + c] = anchors[at][c] + (place - at) * (anchors[at + 1][c] - anchors[at][c]);
    }
  }
  const at = (t) => Math.round(Math.min(Math.max(t, 0), 1) * (STEPS - 1)) * 3;
  return {
    rgb,
    css: (t) => `rgb(${rgb[at(t)]} ${rgb[at(t) + 1]} ${rgb[at(t) + 2]})`,
    // Whichever stands out more: black or white is 4.5 : 1 or better on any colour.
    ink: (t) => (luminance(rgb, at(t)) > 0.179 ? "#000" : "#fff"),
  };
}

function hexToRgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function luminance(rgb, at) {
  const linear = (value) => (value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(rgb[at]) + 0.7152 * linear(rgb[at + 1]) + 0.0722 * linear(rgb[at + 2]);
}
