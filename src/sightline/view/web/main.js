import { App } from "./app.js";
import { Data } from "./data.js";
import { byId, element } from "./dom.js";
import { listenToKeys } from "./keyboard.js";
import { openPainter } from "./painter.js";
import { fromHash, Store, toHash } from "./state.js";
import { followTheme } from "./theme.js";

const FEW = 128; // up to so many tokens single weights are large, and a log scale would show noise

/** Start the page from what it carries. */
function main() {
  const meta = JSON.parse(byId("sightline-data").textContent);
  const data = new Data(meta, (id) => byId(id).textContent);
  const start = firstState(meta);
  const store = new Store(fromHash(location.hash, start, meta));
  const source = byId("sightline-worker").textContent;
  const app = new App(data, store, (onAnswer) => openPainter(source, onAnswer));
  connect(store, data);
  byId("zoom-in").addEventListener("click", () => app.map.zoom(0.5));
  byId("zoom-out").addEventListener("click", () => app.map.zoom(2));
  byId("zoom-all").addEventListener("click", () => store.set({ region: null }));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  listenToKeys(app, byId("help"));
  app.start();
  followTheme(byId("theme"), (dark) => app.setDark(dark));
  new ResizeObserver(() => app.map.request()).observe(byId("map"));
  window.addEventListener("hashchange", () => store.set(fromHash(location.hash, store.state, meta)));
  store.listen(() => history.replaceState(null, "", toHash(store.state)));
  document.documentElement.dataset.ready = "true";
}

function firstState(meta) {
  const { section, layer, head, query, words } = meta.choice;
  const chosen = meta.sections.find((each) => each.name === section);
  const scale = Math.max(chosen.layers[0].n, chosen.layers[0].m) > FEW ? "log" : "sqrt";
  return { section, layer, head, pin: query, direction: "to", words, scale, reduce: "mean", region: null };
}

/** Tie the controls to the state, both ways. */
function connect(store, data) {
  const { meta } = data;
  const section = byId("section");
  section.replaceChildren(...meta.sections.map((each) => element("option", { value: each.name }, each.name)));
  byId("section-label").hidden = meta.sections.length < 2;
  for (const name of ["direction", "scale", "reduce"]) {
    byId(name).addEventListener("change", (event) => {
      const change = { [name]: event.target.value };
      // A query's place means nothing on the other side of a cross-attention.
      if (name === "direction" && !data.section(store.state.section).isSelf) Object.assign(change, { pin: null });
      store.set(change);
    });
  }
  section.addEventListener("change", () => {
    const layers = meta.sections.find((each) => each.name === section.value).layers;
    const layer = Math.min(store.state.layer, layers.length - 1);
    store.set({ section: section.value, layer, head: Math.min(store.state.head, layers[layer].heads - 1) });
  });
  byId("words").addEventListener("change", (event) => store.set({ words: event.target.checked }));
  const show = () => {
    for (const name of ["section", "direction", "scale", "reduce"]) byId(name).value = store.state[name];
    byId("words").checked = store.state.words;
  };
  store.listen(show);
  show();
}

main();
