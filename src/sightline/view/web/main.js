import "./map/element.js";
import "./text/element.js";
import "./atlas/element.js";
import "./cross/element.js";
import "./steps/element.js";
import "./lens/element.js";
import "./whatif/element.js";
import { AskField } from "./ask/element.js";
import { byId } from "./common/dom.js";
import { Explorer } from "./explorer.js";
import { Answer } from "./page/answer.js";
import { EmptyState } from "./page/empty.js";
import { ExportDialog } from "./page/export.js";
import { Facts } from "./page/facts.js";
import { HelpDialog } from "./page/help.js";
import { listenToKeys } from "./page/keyboard.js";
import { Menu } from "./page/menu.js";
import { Notices } from "./page/notices.js";
import { OpenDialog } from "./page/open.js";
import { PlaceControls } from "./page/place.js";
import { Tabs } from "./page/tabs.js";
import { followTheme } from "./page/theme.js";
import { CarriedSource } from "./source/carried.js";
import { LiveSource } from "./source/live.js";
import { ServedSource } from "./source/served.js";
import { fromAddress, toAddress } from "./state.js";
import { TourOffer } from "./tour/offer.js";
import { ownText } from "./tour/own.js";
import { Tour } from "./tour/tour.js";

const VIEWS = ["map", "text", "atlas", "cross", "steps", "lens", "whatif"];

/** Start the page: from what it carries, or from the server that it came from. */
async function main() {
  const source = sourceOfPage();
  const explorer = new Explorer(source, await source.list());
  const notices = new Notices(byId("notices"), explorer);
  const opener = new OpenDialog(byId("open"), explorer);
  const empty = new EmptyState(byId("empty"), explorer, opener);
  const begin = async () => {
    await explorer.open(fromAddress(location.hash));
    empty.hide();
    byId("views").hidden = false;
    for (const id of VIEWS) byId(id).connect(explorer);
    const menu = new Menu(byId("menu-button"), byId("menu"));
    const controls = new PlaceControls(byId("place"), menu, explorer);
    const answer = new Answer(byId("answer"), byId("answer-texts"), explorer);
    const ask = new AskField();
    if (explorer.source.can.live) ask.connect(byId("ask"), explorer);
    const tabs = new Tabs(byId("tabs"), VIEWS.map(byId), explorer);
    const help = new HelpDialog(byId("keys"));
    const exporter = new ExportDialog(byId("export"), explorer, byId("map"));
    explorer.views.push(answer);
    if (explorer.source.can.live) explorer.views.push(ask); // it measures its text, and the answer's place shows it
    explorer.views.push(notices, controls, tabs, new Facts(byId("facts"), explorer, () => byId("map").main.seen));
    const tour = new Tour(byId("tour"), explorer, ownText(explorer, { field: byId("ask"), opener, dialog: byId("own") }));
    const offer = new TourOffer(byId("answer-side"), menu.add("guided tour", () => void tour.open(), { id: "tour-open" }), tour);
    explorer.views.push(offer);
    explorer.views.push({ update: () => writeAddress(toAddress(explorer.state)) });
    actions(menu, explorer, opener, exporter, help);
    listenToKeys(explorer, { help, map: byId("map"), whatif: byId("whatif"), controls });
    window.addEventListener("hashchange", () => void explorer.open(fromAddress(location.hash)));
    explorer.tell(new Set(["subject", "compared", "traces", ...Object.keys(explorer.state)]));
    document.documentElement.dataset.ready = "true";
  };
  if (explorer.traces.length > 0) return begin();
  empty.show(begin);
}

/** What the page carries, with the model that runs in it if it carries one; else the server that it came from. */
function sourceOfPage() {
  if (!byId("sightline-data")) return new ServedSource();
  const carried = CarriedSource.fromPage();
  return LiveSource.fromPage(carried) ?? carried;
}

/** Keep what is shown in the address, where the page has one of its own: a frame of a notebook has not. */
function writeAddress(address) {
  try {
    history.replaceState(null, "", address);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}

/** What the menu offers. */
function actions(menu, explorer, opener, exporter, help) {
  if (explorer.source.can.read || explorer.source.can.upload) menu.add("open a text or a trace…", () => opener.show(), { id: "open-text-or-trace" });
  menu.add("export a picture or the numbers…", () => exporter.show());
  followTheme(menu.add("dark colours", () => {}, { stay: true }), (dark) => explorer.setDark(dark));
  menu.add("keys and help…", () => help.show());
}

main().catch((error) => {
  byId("about").textContent = "";
  const notice = document.createElement("p");
  notice.className = "notice";
  notice.textContent = `The page could not open: ${error.message}`;
  byId("notices").append(notice);
  throw error;
});
