const LONG = 500; // milliseconds that a finger rests
const STILL = 10; // pixels that it may move meanwhile

/**
 * What a mouse does with Shift, a finger does by resting: a click that would follow is left out.
 * @param {HTMLElement} node
 * @param {(event: PointerEvent) => void} act
 */
export function onLongPress(node, act) {
  let timer = 0;
  let acted = false;
  /** @type {PointerEvent | null} */
  let began = null;
  const stop = () => {
    clearTimeout(timer);
    began = null;
  };
  node.addEventListener("pointerdown", (event) => {
    stop();
    acted = false;
    if (event.pointerType !== "touch" || !event.isPrimary) return;
    began = event;
    timer = window.setTimeout(() => {
      acted = true;
      act(event);
    }, LONG);
  });
  node.addEventListener("pointermove", (event) => {
    if (began && Math.hypot(event.clientX - began.clientX, event.clientY - began.clientY) > STILL) stop();
  });
  for (const name of ["pointerup", "pointercancel"]) node.addEventListener(name, stop);
  const swallow = (event) => {
    if (!acted) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  node.addEventListener("click", swallow, { capture: true });
  node.addEventListener("contextmenu", swallow, { capture: true });
}

/**
 * @typedef {{x: number, y: number}} Finger
 */

/**
 * What two fingers did to what lies under them.
 * @param {[Finger, Finger]} before
 * @param {[Finger, Finger]} after
 * @returns {{factor: number, at: Finger, by: Finger}} factor below 1: closer, as they went apart; at: between them
 */
export function pinchOf(before, after) {
  const apart = ([a, b]) => Math.max(1, Math.hypot(a.x - b.x, a.y - b.y));
  const middle = ([a, b]) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
  const [from, to] = [middle(before), middle(after)];
  return { factor: apart(before) / apart(after), at: to, by: { x: to.x - from.x, y: to.y - from.y } };
}
