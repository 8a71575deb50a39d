/**
 * What the page shows; all of it is in the address.
 * @typedef {object} Shown
 * @property {string} trace
 * @property {number} call
 * @property {string} head a number, "mean" or "max"
 * @property {number | null} query the pinned query
 * @property {number | null} key the pinned key
 * @property {"to" | "from"} direction
 * @property {string} scale
 * @property {boolean} fit
 * @property {string} reduce
 * @property {import("./pyramid.js").View | null} view null for the whole matrix
 */

/**
 * @param {Shown} shown
 * @returns {string}
 */
export function toAddress(shown) {
  const query = new URLSearchParams({ t: shown.trace, l: String(shown.call), h: shown.head });
  if (shown.query !== null) query.set("q", String(shown.query));
  if (shown.key !== null) query.set("k", String(shown.key));
  query.set("d", shown.direction);
  query.set("c", shown.scale);
  query.set("p", shown.reduce);
  if (shown.fit) query.set("f", "1");
  const view = shown.view;
  if (view) query.set("v", [view.x.toFixed(2), view.y.toFixed(2), view.per.toPrecision(6)].join("_"));
  return `#${query}`;
}

/**
 * What an address means; what it leaves out or gets wrong is null or the default.
 * @param {string} hash
 * @returns {Shown}
 */
export function fromAddress(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const place = (letter) => (/^\d{1,9}$/.test(query.get(letter) ?? "") ? Number(query.get(letter)) : null);
  const oneOf = (letter, words) => (words.includes(query.get(letter)) ? query.get(letter) : words[0]);
  const head = query.get("h") ?? "";
  const [x, y, per] = (query.get("v") ?? "").split("_").map(Number);
  return {
    trace: query.get("t") ?? "",
    call: place("l") ?? 0,
    head: /^(\d{1,5}|mean|max)$/.test(head) ? head : "0",
    query: place("q"),
    key: place("k"),
    direction: /** @type {any} */ (oneOf("d", ["to", "from"])),
    scale: oneOf("c", ["log", "sqrt", "linear"]),
    fit: query.get("f") === "1",
    reduce: oneOf("p", ["mean", "max"]),
    view: query.has("v") && [x, y, per].every(Number.isFinite) && per > 0 ? { x, y, per } : null,
  };
}
