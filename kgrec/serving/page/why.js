// Why an item is recommended: reasons with their shares, the user's relations, the receptive field.

import { capital, h, number } from "./dom.js";
import { receptiveField } from "./tree.js";

const MOST_RELATIONS = 8;
export const REASONS = 8;

const SOURCES = {
  model: "",
  popularity: "The model knows nothing of this user. These items are the most popular ones.",
};

/** What a source means for a reader; empty for users of the run. */
export function sourceInWords(source) {
  if (source in SOURCES) return SOURCES[source];
  return `The user's parameters were inferred from the liked items: ${source}.`;
}

/** The explanation of POST /explain as elements. */
export function explanation(answer) {
  const source = sourceInWords(answer.source);
  const parts = [
    h("p.because", { dir: "auto" }, answer.text),
    source ? h("p.help", {}, source) : null,
    h("div.two", {}, reasons(answer), relations(answer)),
    answer.receptive_field?.children.length ? receptiveField(answer.receptive_field) : null,
  ];
  return parts.filter(Boolean);
}

function reasons(answer) {
  const rows = answer.contributions.map((reason) => {
    const value = reason.share ?? reason.weight;
    const liked = (reason.history ?? []).map((item) => item.name || item.id);
    const shared = liked.length && !(reason.item && !reason.steps.length) ? `you liked ${listed(liked)}` : "";
    return { text: reason.reason, detail: shared, value, signed: reason.share !== null };
  });
  const lines = [];
  if (answer.left_out) lines.push(`${answer.left_out.toLocaleString("en")} further reasons are not shown.`);
  if (answer.together !== null) lines.push(`All reasons together: ${number(answer.together, true)} of the score ${number(answer.score)}.`);
  for (const [name, value] of Object.entries(answer.parts)) lines.push(`${capital(name)}: ${number(value, true)}.`);
  return h("section", {}, h("h5", {}, rows.length ? titleOf(answer) : "Reasons"), rows.length ? bars(rows) : null,
    lines.length ? h("p.sums", {}, lines.join(" ")) : null, h("p.help.note", {}, answer.note));
}

function titleOf(answer) {
  if (answer.contributions.some((each) => each.share !== null)) return "Reasons and their shares of the score";
  return answer.method === "popularity" ? "Users that like it" : "Most similar items of the history";
}

function relations(answer) {
  if (!answer.relations?.length) return null;
  const rows = answer.relations.slice(0, MOST_RELATIONS).map((each) => ({ text: each.name, value: each.score, signed: true }));
  const more = answer.relations.length - rows.length;
  return h("section", {}, h("h5", {}, "What counts for this user"), bars(rows),
    h("p.help", {}, `Score of each relation in the model's attention, with the sliders.${more > 0 ? ` ${more} lower ones are not shown.` : ""}`));
}

/** Rows with bars; a bar of a negative value is hollow. */
function bars(rows) {
  const largest = Math.max(...rows.map((row) => Math.abs(row.value)), 1e-9);
  return h("ul.bars", {}, ...rows.map((row) => {
    const bar = h(`span.bar${row.value < 0 ? ".negative" : ""}`, { "aria-hidden": "true" });
    bar.style.setProperty("--part", Math.abs(row.value) / largest);
    return h("li", {}, h("span.text", { dir: "auto" }, row.text), h("span.value", {}, number(row.value, row.signed)), bar,
      row.detail ? h("span.detail", { dir: "auto" }, row.detail) : null);
  }));
}

function listed(names) {
  const shown = names.slice(0, 3);
  const more = names.length - shown.length;
  const all = more > 0 ? [...shown, `${more} more`] : shown;
  return all.length > 1 ? `${all.slice(0, -1).join(", ")} and ${all.at(-1)}` : all[0];
}
