/**
 * Where an arrow key leads in lines of cells; null for a key that leads nowhere.
 * @param {string} key as in KeyboardEvent.key
 * @param {{line: number, at: number}} from
 * @param {number[]} lengths of the lines, none of them empty
 * @returns {{line: number, at: number} | null}
 */
export function rove(key, { line, at }, lengths) {
  const inLine = (to) => ({ line, at: Math.min(Math.max(to, 0), lengths[line] - 1) });
  const toLine = (to) => {
    const next = Math.min(Math.max(to, 0), lengths.length - 1);
    return { line: next, at: Math.min(at, lengths[next] - 1) };
  };
  switch (key) {
    case "ArrowLeft":
      return inLine(at - 1);
    case "ArrowRight":
      return inLine(at + 1);
    case "ArrowUp":
      return toLine(line - 1);
    case "ArrowDown":
      return toLine(line + 1);
    case "PageUp":
      return toLine(line - 5);
    case "PageDown":
      return toLine(line + 5);
    case "Home":
      return inLine(0);
    case "End":
      return inLine(lengths[line] - 1);
    default:
      return null;
  }
}
