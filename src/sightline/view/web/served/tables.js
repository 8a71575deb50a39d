import { element, showWeight } from "../dom.js";

const NUMBERS = { entropy: "entropy (nats)", distance: "distance", max: "largest", first: "on the first", itself: "on itself", previous: "on the one before" };

/** Every stage of a query for the keys that it looks at most. */
export function showStages(table, rest, told, text) {
  const names = { scaled: "q·k × scale", capped: "capped", biased: "+ bias", masked: "masked" };
  const head = ["key", "token", "q·k", ...told.stages.map((name) => names[name]), "weight"];
  const rows = told.keys.map((each) => {
    const raw = told.scale ? each.scaled / told.scale : NaN;
    const numbers = [raw, ...told.stages.map((name) => each[name])].map((value) => value.toFixed(3));
    return [`#${each.key}`, text(each.key), ...numbers, showWeight(each.weight)];
  });
  fill(table, head, rows);
  rest.textContent = told.rest.keys > 0 ? `and ${told.rest.keys.toLocaleString("en")} others: Σ weight ${told.rest.weight.toFixed(4)} · softmax: exp(masked − ${told.lse?.toFixed(3)})` : "";
}

/** Numbers of every head; choosing a row shows the head. */
export function showHeads(table, told, chosen, onChoose) {
  const names = Object.keys(NUMBERS).filter((name) => told.heads[name]);
  const rows = told.heads.entropy.map((_, head) => [`${head}`, ...names.map((name) => told.heads[name][head].toPrecision(4))]);
  fill(table, ["head", ...names.map((name) => NUMBERS[name])], rows);
  table.querySelectorAll("tbody tr").forEach((row, head) => {
    row.setAttribute("aria-selected", String(String(head) === chosen));
    row.tabIndex = 0;
    row.addEventListener("click", () => onChoose(String(head)));
    row.addEventListener("keydown", (event) => event.key === "Enter" && onChoose(String(head)));
  });
}

function fill(table, head, rows) {
  const line = (kind, cells) => element("tr", {}, ...cells.map((cell) => element(kind, {}, cell)));
  table.replaceChildren(element("thead", {}, line("th", head)), element("tbody", {}, ...rows.map((row) => line("td", row))));
}
