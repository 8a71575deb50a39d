/**
 * Keys that work anywhere on the page but where something is typed or chosen from a list.
 * @param {import("../explorer.js").Explorer} explorer
 * @param {{help: import("./help.js").HelpDialog, map: any, whatif: any, controls: import("./place.js").PlaceControls}} parts
 */
export function listenToKeys(explorer, { help, map, whatif, controls }) {
  const toHead = (step) => {
    const { layer, head } = explorer.subject;
    const names = [...Array.from({ length: layer.heads }, (_, at) => String(at)), "mean", "max"];
    explorer.set({ head: names[(names.indexOf(head) + step + names.length) % names.length] });
  };
  const toLayer = (step) => {
    const { section, layerAt } = explorer.subject;
    explorer.set({ layer: (layerAt + step + section.layers.length) % section.layers.length });
  };
  const toToken = (step) => {
    const { subject, state } = explorer;
    const [name, tokens] = state.direction === "to" ? ["query", subject.queries] : ["key", subject.keys];
    const { count } = tokens.side;
    const at = state[name];
    if (at === null) return explorer.set({ [name]: step > 0 ? 0 : count - 1 });
    const { from, to } = explorer.range(tokens, at);
    explorer.set({ [name]: ((step > 0 ? to : from - 1) + count) % count });
  };
  const turn = () => explorer.set({ direction: explorer.state.direction === "to" ? "from" : "to" });
  const leave = () => {
    const { query, key, versus } = explorer.state;
    explorer.set(query === null && key === null && versus ? { versus: null } : { query: null, key: null });
  };
  /** @type {Object<string, () => unknown>} */
  const actions = {
    ArrowLeft: () => toHead(-1),
    ArrowRight: () => toHead(1),
    ArrowUp: () => toLayer(-1),
    ArrowDown: () => toLayer(1),
    "Shift+ArrowLeft": () => map.move(-60, 0),
    "Shift+ArrowRight": () => map.move(60, 0),
    "Shift+ArrowUp": () => map.move(0, -60),
    "Shift+ArrowDown": () => map.move(0, 60),
    n: () => toToken(1),
    p: () => toToken(-1),
    d: turn,
    w: () => explorer.set({ words: !explorer.state.words }),
    f: () => explorer.set({ full: explorer.state.full ? null : "map" }),
    "+": () => map.zoom(0.5),
    "=": () => map.zoom(0.5),
    "-": () => map.zoom(2),
    0: () => explorer.set({ view: null }),
    "/": () => controls.startSearch(),
    Escape: leave,
    x: () => whatif.hidden || whatif.toggleCut(),
    "?": () => help.show(),
  };
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const typed = target.matches("select, textarea, input:not([type=checkbox]):not([type=range])");
    if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey || typed) return;
    const arrow = event.key.startsWith("Arrow");
    if (arrow && target.matches("[data-own-arrows], [data-own-arrows] *")) return;
    const action = actions[arrow && event.shiftKey ? `Shift+${event.key}` : event.key];
    if (!action) return;
    event.preventDefault();
    explorer.hovered = null;
    action();
  });
}
