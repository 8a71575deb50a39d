/** The table of cases that holds the definition and every backend, as the page has its heads. */
import { readFileSync } from "node:fs";

export const CASES = JSON.parse(readFileSync(new URL("../../stage_cases.json", import.meta.url), "utf8"));

const floats = (rows) => Float32Array.from(rows.flat().map((value) => value ?? -Infinity));
const shapeOf = (rows) => (rows ? [rows.length, rows[0].length] : [1, 1]);

/** A case as the page has it: one head, in one of the two forms of its bias. */
export function headOf(given, asDiagonals = false) {
  const { query, key, value, bias, visible, ranges, table, expected } = given;
  const [n, m, width] = [query.length, key.length, query[0].length];
  return {
    n, m, width,
    scale: given.scale ?? 1 / Math.sqrt(width),
    softcap: given.softcap ?? null,
    query: floats(query), key: floats(key), value: floats(value), valueWidth: value[0].length,
    lse: floats(expected.lse),
    ranges: ranges ? Int32Array.from(ranges.flat(2)) : null,
    visible: visible ? Uint8Array.from(visible.flat()) : null, visibleShape: shapeOf(visible),
    bias: bias && !asDiagonals ? floats(bias) : null, biasShape: shapeOf(bias),
    diagonals: asDiagonals ? diagonalsOf(given, n, m) : null,
    slope: asDiagonals ? 0 : (given.slope ?? 0),
    table: table && !asDiagonals ? floats(table) : null,
    offset: m - n,
    sink: given.sink ?? -Infinity,
    gradient: null,
  };
}

/** What a bias by distance adds, [n + m - 1] from the lowest diagonal up: a page may carry it so. */
function diagonalsOf({ expected }, n, m) {
  const added = (i, j) => expected.biased[i][j] - expected.capped[i][j];
  return Float32Array.from({ length: n + m - 1 }, (_, at) => (at < n ? added(n - 1 - at, 0) : added(0, at - n + 1)));
}
