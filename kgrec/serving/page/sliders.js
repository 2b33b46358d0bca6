// Sliders of relations: powers of two from 1/8 to 8, "as learned" in the middle.

import { freshId, h, relationText } from "./dom.js";

const FIRST = 8; // relations that are shown at once

const WORDS = { "-3": "an eighth", "-2": "a quarter", "-1": "half", 0: "as learned", 1: "twice", 2: "four times", 3: "eight times" };

function inWords(power) {
  if (power in WORDS) return WORDS[power];
  return `${(2 ** power).toLocaleString("en", { maximumSignificantDigits: 2 })} times`;
}

function inDigits(power) {
  if (power === 0) return "as learned";
  return `× ${(2 ** power).toLocaleString("en", { maximumSignificantDigits: 2 })}`;
}

/**
 * @param {HTMLElement} place
 * @param {(name: string, power: number) => void} moved
 * @param {() => void} reset
 * @returns {(runs: object[], weights: object) => boolean} shows the relations of runs; whether there are any
 */
export function sliders(place, moved, reset) {
  let shown = "";
  let all = false;
  const rows = new Map();
  const list = h("div.sliders");
  const resetButton = h("button.quiet", { type: "button", onclick: reset }, "Reset all");
  const allButton = h("button.quiet", {
    type: "button",
    onclick: () => {
      all = true;
      fold();
    },
  });
  const scale = h("p.scale", { "aria-hidden": "true" }, h("span", {}, "less"), h("span", {}, "as learned"), h("span", {}, "more"));
  place.append(scale, list, h("p.row", {}, resetButton, allButton));

  function row(name) {
    const id = freshId("slider");
    const output = h("output", { for: id });
    const input = h("input", {
      type: "range", id, min: -3, max: 3, step: 0.25,
      oninput: () => {
        show(name, Number(input.value));
        moved(name, Number(input.value));
      },
    });
    rows.set(name, { input, output, line: h("div.slider", {}, h("label", { for: id, dir: "auto" }, name), output, input) });
    return rows.get(name).line;
  }

  function show(name, power) {
    const { input, output, line } = rows.get(name);
    if (Number(input.value) !== power) input.value = power;
    input.setAttribute("aria-valuetext", inWords(power));
    output.textContent = inDigits(power);
    line.classList.toggle("set", power !== 0);
  }

  function fold(weights = null) {
    [...rows].forEach(([name, { line, input }], place) => {
      const power = weights ? weights[name] : Number(input.value);
      line.hidden = !all && place >= FIRST && !power;
    });
    allButton.hidden = all || rows.size <= FIRST;
    allButton.textContent = `Show all ${rows.size}`;
  }

  return (runs, weights) => {
    const able = runs.filter((run) => run.abilities.relation_weights);
    const names = [...new Set(able.flatMap((run) => run.relations.map(relationText)))];
    if (names.join("\n") !== shown) {
      shown = names.join("\n");
      rows.clear();
      list.replaceChildren(...names.map(row));
    }
    for (const name of names) show(name, weights[name] ?? 0);
    fold(weights);
    resetButton.disabled = !Object.values(weights).some(Boolean);
    return names.length > 0;
  };
}
