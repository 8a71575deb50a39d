/**
 * Keys that work anywhere on the page but where something is typed or chosen from a list.
 * @param {import("./app.js").App} app
 * @param {HTMLDialogElement} help
 */
export function listenToKeys(app, help) {
  const { store } = app;
  const layers = () => app.subject.section.layers;
  const toHead = (step) => {
    const heads = layers()[store.state.layer].heads;
    store.set({ head: (store.state.head + step + heads) % heads });
  };
  const toLayer = (step) => {
    const layer = (store.state.layer + step + layers().length) % layers().length;
    store.set({ layer, head: Math.min(store.state.head, layers()[layer].heads - 1) });
  };
  const toUnit = (step) => {
    const { pin, direction } = store.state;
    const { count } = direction === "to" ? app.subject.queries : app.subject.keys;
    store.set({ pin: pin === null ? (step > 0 ? 0 : count - 1) : (pin + step + count) % count });
  };
  const flip = () => store.set({ direction: store.state.direction === "to" ? "from" : "to" });
  /** @type {Object<string, () => void>} */
  const actions = {
    ArrowLeft: () => toHead(-1),
    ArrowRight: () => toHead(1),
    ArrowUp: () => toLayer(-1),
    ArrowDown: () => toLayer(1),
    n: () => toUnit(1),
    p: () => toUnit(-1),
    d: flip,
    w: () => store.set({ words: !store.state.words }),
    "+": () => app.map.zoom(0.5),
    "=": () => app.map.zoom(0.5),
    "-": () => app.map.zoom(2),
    0: () => store.set({ region: null }),
    Escape: () => store.set({ pin: null }),
    "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (help.open || event.ctrlKey || event.metaKey || event.altKey || target.matches("select, input[type=text]")) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    app.hovered = null;
    action();
  });
}
