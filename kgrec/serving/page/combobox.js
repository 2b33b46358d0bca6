// A text field with a list of matches (the combobox of the ARIA Authoring Practices).

import { count, faultBox, freshId, h } from "./dom.js";
import { latest, pause } from "./api.js";

/**
 * @param {object} options
 * @param {string} options.label
 * @param {string} options.placeholder
 * @param {(text: string, signal: AbortSignal) => Promise<{matches: object[], total: number}>} options.search
 * @param {(match: object) => {text: string, detail: string}} options.describe
 * @param {(match: object) => void} options.choose
 * @returns {{element: HTMLElement, input: HTMLInputElement, set: (text: string) => void}}
 */
export function combobox({ label, placeholder, search, describe, choose }) {
  const [inputId, listId] = [freshId("combobox"), freshId("list")];
  const list = h("ul.options", { role: "listbox", id: listId, "aria-label": label, hidden: true });
  const says = h("p.hidden", { role: "status" });
  const faults = h("div");
  const input = h("input", {
    id: inputId, type: "text", role: "combobox", "aria-expanded": "false", "aria-controls": listId,
    "aria-autocomplete": "list", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    placeholder, dir: "auto",
    oninput: () => look(true),
    onclick: () => list.hidden && look(true),
    onkeydown: onKey,
    onblur: close,
  });
  let matches = [];
  let active = -1;
  let wanted = false;

  const look = latest(async (signal) => {
    wanted = true;
    await pause(90, signal);
    try {
      const found = await search(input.value.trim(), signal);
      faults.replaceChildren();
      if (wanted && document.activeElement === input) show(found);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      close();
      faults.replaceChildren(faultBox(error.message));
    }
  });

  function show({ matches: found, total }) {
    matches = found;
    const rows = found.map((match, place) => {
      const { text, detail } = describe(match);
      return h(
        "li", {
          role: "option", id: `${listId}-${place}`, "aria-selected": "false",
          onmousedown: (event) => event.preventDefault(), // the field keeps the focus
          onclick: () => take(place),
        },
        h("span.text", { dir: "auto" }, text), h("span.detail", {}, detail),
      );
    });
    if (total > found.length) rows.push(h("li.rest", { role: "presentation" }, `${count(total - found.length, "further match", "further matches")}: type more`));
    if (!found.length) rows.push(h("li.rest", { role: "presentation" }, "No match"));
    list.replaceChildren(...rows);
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    activate(-1);
    says.textContent = total ? count(total, "match", "matches") : "No match";
  }

  function activate(place) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = place;
    const option = place < 0 ? null : list.children[place];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) input.setAttribute("aria-activedescendant", option.id);
    else input.removeAttribute("aria-activedescendant");
  }

  function close() {
    wanted = false;
    list.hidden = true;
    matches = [];
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function take(place) {
    const match = matches[place];
    close();
    if (match) choose(match);
  }

  function onKey(event) {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) look(true);
      else if (matches.length) {
        const step = key === "ArrowDown" ? 1 : -1;
        const from = active < 0 && step < 0 ? matches.length : active;
        activate((from + step + matches.length) % matches.length);
      }
    } else if (key === "Enter" && !list.hidden && matches.length) {
      event.preventDefault();
      take(Math.max(active, 0));
    } else if (key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    }
  }

  const element = h("div.combobox", {}, h("label", { for: inputId }, label), input, list, says, faults);
  return { element, input, set: (text) => (input.value = text) };
}
