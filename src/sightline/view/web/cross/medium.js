/** Places that are not of the medium, in front of it or behind: class and register tokens, two sentence ends. */
const OTHERS = 64;

/**
 * How many positions a medium has.
 * @param {import("../source/types.js").ImageInfo | import("../source/types.js").SoundInfo} medium
 */
export function mediumCount(medium) {
  return medium.kind === "image" ? medium.rows * medium.columns : medium.count;
}

/**
 * Whether the keys of a section are the positions of a medium.
 * @param {import("../source/types.js").SectionInfo} section
 * @param {import("../source/types.js").About["medium"]} medium
 */
export function isOfMedium({ keys }, medium) {
  if (!medium) return false;
  const size = medium.first + mediumCount(medium);
  return keys.count >= size && keys.count < size + OTHERS;
}

/**
 * The position whose patch covers a point of the picture, null beside it.
 * @param {import("../source/types.js").ImageInfo} image
 * @param {number} x from 0 to 1, left to right
 * @param {number} y from 0 to 1, top to bottom
 */
export function patchAt({ rows, columns, first }, x, y) {
  if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return null;
  return first + Math.floor(y * rows) * columns + Math.floor(x * columns);
}

/**
 * Where a position's patch is, null for a position that is none.
 * @param {import("../source/types.js").ImageInfo} image
 * @param {number} at
 * @returns {{row: number, column: number} | null}
 */
export function patchOf({ rows, columns, first }, at) {
  const place = at - first;
  if (place < 0 || place >= rows * columns) return null;
  return { row: Math.floor(place / columns), column: place % columns };
}

/**
 * The position of a moment, as a share of the whole time; null outside.
 * @param {import("../source/types.js").SoundInfo} sound
 * @param {number} share from 0 to 1
 */
export function momentAt({ first, count }, share) {
  return share >= 0 && share < 1 ? first + Math.floor(share * count) : null;
}

/**
 * Positions beside the medium: those in front of it and behind.
 * @param {import("../source/types.js").ImageInfo | import("../source/types.js").SoundInfo} medium
 * @param {number} count of all
 */
export function besideMedium(medium, count) {
  const end = medium.first + mediumCount(medium);
  return Array.from({ length: count }, (_, at) => at).filter((at) => at < medium.first || at >= end);
}
