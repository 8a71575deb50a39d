import { byId, element } from "../dom.js";
import { followTheme } from "../theme.js";
import { fromAddress } from "./address.js";
import { Page } from "./page.js";
import { ServedSource } from "./source.js";

async function main() {
  const source = new ServedSource();
  const { traces } = await source.traces();
  const shown = fromAddress(location.hash);
  if (!traces.some((trace) => trace.id === shown.trace)) shown.trace = traces[0].id;
  const about = await source.about(shown.trace);
  const layers = about.layers.filter((layer) => layer.top !== undefined);
  if (!layers.some((layer) => layer.index === shown.call)) shown.call = layers[0].index;
  document.title = `${about.title} · Sightline`;
  byId("trace").replaceChildren(...traces.map((trace) => element("option", { value: trace.id }, trace.title)));
  byId("trace").value = shown.trace;
  byId("trace-label").hidden = traces.length < 2;
  byId("call").replaceChildren(
    ...layers.map((layer) => element("option", { value: layer.index }, `${layer.index}${layer.kind === "cross" ? " (cross)" : ""}${layer.verified ? "" : " · unverified"}`)),
  );
  byId("caveat").textContent = about.caveat;
  const page = new Page(source, about, shown);
  connect(page);
  page.start();
  followTheme(byId("theme"), (dark) => page.setDark(dark));
  window.addEventListener("hashchange", () => location.reload());
  document.documentElement.dataset.ready = "true";
}

function connect(page) {
  byId("trace").addEventListener("change", (event) => {
    location.hash = new URLSearchParams({ t: event.target.value }).toString();
  });
  byId("call").addEventListener("change", (event) => page.set({ call: Number(event.target.value) }));
  for (const name of ["head", "scale", "reduce", "direction"]) {
    byId(name).addEventListener("change", (event) => page.set({ [name]: event.target.value }));
  }
  byId("head").addEventListener("change", () => page.loadNumbers());
  byId("fit").addEventListener("change", (event) => page.set({ fit: event.target.checked }));
  byId("zoom-in").addEventListener("click", () => page.map.zoom(0.5));
  byId("zoom-out").addEventListener("click", () => page.map.zoom(2));
  byId("zoom-all").addEventListener("click", () => page.map.setView(null));
  byId("cancel").addEventListener("click", () => page.cancel());
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    page.goTo(byId("wanted").value.trim());
  });
  const head = (step) => {
    const options = [...byId("head").options].map((option) => option.value);
    page.set({ head: options[(options.indexOf(page.shown.head) + step + options.length) % options.length] });
  };
  const actions = {
    "+": () => page.map.zoom(0.5),
    "=": () => page.map.zoom(0.5),
    "-": () => page.map.zoom(2),
    0: () => page.map.setView(null),
    "[": () => head(-1),
    "]": () => head(1),
    d: () => page.set({ direction: page.shown.direction === "to" ? "from" : "to" }),
    Escape: () => page.set({ query: null, key: null }),
    "/": () => byId("wanted").focus(),
    "?": () => byId("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const typed = event.target.matches("select, input");
    if (byId("help").open || typed || event.ctrlKey || event.metaKey || event.altKey || !actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });
}

main().catch((error) => {
  byId("about").textContent = "";
  byId("notice").textContent = `The page could not open: ${error.message}`;
  byId("notice").hidden = false;
});
