const KEY = "sightline-tour";

/**
 * How far the tour was gone; `over` once it was ended, or was not wanted.
 * @typedef {{at: number, over: boolean}} TourMemory
 */

/** What is remembered of the tour; null where nothing can be, as in a frame of a notebook. @returns {TourMemory | null} */
export function recallTour() {
  try {
    const { at = 0, over = false } = JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
    return { at: Number.isInteger(at) && at > 0 ? at : 0, over: over === true };
  } catch (error) {
    return error instanceof SyntaxError ? { at: 0, over: false } : null;
  }
}

/** @param {TourMemory} memory */
export function rememberTour(memory) {
  try {
    localStorage.setItem(KEY, JSON.stringify(memory));
  } catch {
    // a page without storage begins anew
  }
}
