/**
 * The side of the matrix that a shown token stands for; "both" in self-attention.
 * @typedef {"both" | "queries" | "keys"} Role
 *
 * @typedef {Pick<import("../state.js").State, "direction" | "query" | "key">} Pins
 */

/**
 * Whether a token of this role can be what the shading is about.
 * @param {Role} role
 * @param {"to" | "from"} direction
 */
function isSource(role, direction) {
  return role === "both" || role === (direction === "to" ? "queries" : "keys");
}

/**
 * What a token under the pointer means: with a pin on the other side the weight between them, else the token itself.
 * @param {Pins} pins
 * @param {Role} role
 * @param {number} at
 * @returns {{query: number | null, key: number | null}}
 */
export function hoverOf({ direction, query, key }, role, at) {
  if (direction === "to") {
    if (role === "queries") return { query: at, key: null };
    return query !== null || role === "keys" ? { query, key: at } : { query: at, key: null };
  }
  if (role === "keys") return { query: null, key: at };
  return key !== null || role === "queries" ? { query: at, key } : { query: null, key: at };
}

/**
 * What a click on a token changes: it pins the token, unpins the pinned one, and turns the direction where only the
 * other side has anything to show.
 * @param {Pins} pins
 * @param {Role} role
 * @param {import("./merge.js").TokenRange} unit the token or its word
 * @param {number} at
 * @returns {Partial<import("../state.js").State>}
 */
export function pinOf(pins, role, unit, at) {
  const { direction } = pins;
  const own = isSource(role, direction);
  const [source, target] = direction === "to" ? ["query", "key"] : ["key", "query"];
  const name = own ? source : target;
  const pinned = pins[name] !== null && unit.from <= pins[name] && pins[name] < unit.to;
  if (own || pins[source] !== null || pinned) return { [name]: pinned ? null : at };
  return { [name]: at, direction: direction === "to" ? "from" : "to" };
}
