import { element } from "../common/dom.js";
import { largestOf } from "./arithmetic.js";
import { withoutValues } from "./missing.js";
import { vectorStrip } from "./strip.js";

/**
 * All heads' contexts of a query side by side, the current one framed; a click chooses a head.
 * @param {import("./walk.js").Walk} walk
 * @returns {Node[]}
 */
export function headsStrip({ stages, head, query, colours, onHead }) {
  const contexts = stages.heads.map(({ context }) => context);
  const width = contexts.find(Boolean)?.length;
  if (!width) return [withoutValues("What the heads give")];
  const most = largestOf(contexts);
  const heads = stages.heads.map(({ head: each, context }) => {
    const strip = vectorStrip(context, most, colours, `context of ${query} in head ${each}`);
    const made = element("button", { type: "button", "aria-pressed": String(each === head), title: `head ${each}` }, element("span", {}, `head ${each}`), strip);
    made.addEventListener("click", () => onHead(each));
    return made;
  });
  const box = element("div", { class: "steps-heads", role: "group", "aria-label": "contexts of all heads" }, ...heads);
  const text = `concatenated: ${heads.length} × ${width} = ${heads.length * width} numbers → output projection`;
  return [box, element("p", { class: "steps-worked" }, text)];
}
