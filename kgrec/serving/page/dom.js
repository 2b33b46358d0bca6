// Elements and texts. Texts come from data, so they are only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

/** The element of an id. */
export const byId = (id) => document.getElementById(id);

/**
 * An element.
 * @param {string} tag its tag, with classes after dots
 * @param {object} attributes attributes; on… adds a listener; null and false leave one out
 * @param {...(Node|string|null)} children
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag.split(".")[0]), tag, attributes, children);
}

/** An SVG element; arguments as of h. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag.split(".")[0]), tag, attributes, children);
}

function filled(element, tag, attributes, children) {
  for (const name of tag.split(".").slice(1)) element.classList.add(name);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let numbers = 0;

/** An id that no other element has. */
export const freshId = (prefix) => `${prefix}-${(numbers += 1)}`;

/** A score or share: two digits, more where the number is small. */
export function number(value, sign = false) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const digits = size >= 1000 ? 0 : size >= 0.095 || size === 0 ? 2 : size >= 0.0095 ? 3 : 4;
  const text = size.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const zero = Number(text.replaceAll(",", "")) === 0;
  return `${value < 0 && !zero ? "−" : sign && !zero ? "+" : ""}${text}`;
}

/** A count with its noun. */
export const count = (n, one, several = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : several}`;

/** The text with a capital at its start. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** The title of an item, else its id. */
export const titleOf = (item) => item.name || item.item;

/** A relation in words; Freebase's domain.type.property is its last part. */
export function relationText(relation) {
  const raw = relation.name || relation.relation;
  const words = raw.split(/[/#]/).pop().split(".").pop().replaceAll("_", " ").trim();
  return words || raw;
}

/** A message of a fault, with a button that tries again. */
export function faultBox(message, again) {
  const button = again ? h("button.quiet", { type: "button", onclick: again }, "Try again") : null;
  return h("div.fault", { role: "alert" }, h("p", { dir: "auto" }, message), button);
}
