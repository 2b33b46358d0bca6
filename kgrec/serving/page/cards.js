// Cards of recommended items. A card stays the same element while its item is in the list, so that
// it can move to its new place.

import { below, fact } from "./api.js";
import { capital, freshId, h, number, titleOf } from "./dom.js";

const MOST_GROUPS = 5; // relations of a card
const MOST_NAMES = 3; // entities of a relation
const OPAQUE = /^([mg]\.[0-9a-z_]+|Q\d+|\d+|[a-z]+:\/\/.*)$/; // ids that tell a reader nothing

const CALMLY = { duration: 420, easing: "cubic-bezier(.2, .7, .2, 1)" };

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * @param {HTMLOListElement} list
 * @param {(item: string) => void} opened the user opens or closes a card
 */
export function cards(list, opened) {
  const shown = new Map();

  function make(run, item) {
    const detailId = freshId("why");
    const rank = h("span.rank");
    const button = h("button.title", {
      type: "button", "aria-expanded": "false", "aria-controls": detailId, dir: "auto",
    }, titleOf(item));
    const attributes = h("p.attributes", { dir: "auto" });
    const why = h("p.why", { dir: "auto" });
    const marks = h("p.marks");
    const score = h("span.number");
    const change = h("span.change");
    const head = h("div.head", {
      onclick: () => {
        if (!getSelection().toString()) opened(item.item);
      },
    },
    rank,
    h("div.body", {}, h("h4", {}, button), attributes, why, marks),
    h("p.score", {}, h("span.hidden", {}, "score "), score, change));
    const detail = h("div.detail", { id: detailId, hidden: true });
    fact(below("items", item.item), { run })
      .then((facts) => attributes.replaceChildren(...attributeLine(facts)))
      .catch(() => {}); // a card is good without them
    const element = h("li.card", { "data-item": item.item }, head, detail);
    return { element, button, rank, why, marks, score, change, detail };
  }

  /** Shows rows in their order; rows are made by column.js. */
  function show(run, rows, animate) {
    const before = new Map([...shown].map(([item, card]) => [item, card.element.getBoundingClientRect().top]));
    const focused = document.activeElement;
    const wanted = new Set(rows.map((row) => row.item));
    for (const [item, card] of shown) {
      if (wanted.has(item)) continue;
      card.element.remove();
      shown.delete(item);
    }
    let previous = null;
    for (const row of rows) {
      if (!shown.has(row.item)) shown.set(row.item, make(run, row));
      const card = shown.get(row.item);
      fill(card, row);
      const place = previous ? previous.nextSibling : list.firstChild;
      if (place !== card.element) list.insertBefore(card.element, place);
      previous = card.element;
    }
    if (list.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
    if (animate && !calm.matches) move(before);
  }

  function fill(card, row) {
    card.rank.textContent = row.rank;
    card.score.textContent = number(row.score);
    if (row.why !== undefined) card.why.textContent = row.why ? capital(row.why) : "";
    const change = row.change === null ? "" : number(row.change, { sign: true, largest: Math.abs(row.score) });
    card.change.textContent = /[1-9]/.test(change) ? change : "";
    card.marks.replaceChildren(...row.marks.map(({ text, kind }) => h(`span.mark.${kind}`, {}, text)));
  }

  function move(before) {
    for (const [item, { element }] of shown) {
      const was = before.get(item);
      const by = was === undefined ? 0 : was - element.getBoundingClientRect().top;
      const frames = was === undefined
        ? [{ opacity: 0 }, { opacity: 1 }]
        : [{ transform: `translateY(${by}px)` }, { transform: "none" }];
      if (was === undefined || Math.abs(by) > 1) element.animate(frames, CALMLY);
    }
  }

  function clear() {
    list.replaceChildren();
    shown.clear();
  }

  return { show, clear, get: (item) => shown.get(item) };
}

/** Attributes by relation: "tag kids, gift · brand Ipê"; ids without a name are counted. */
function attributeLine(facts) {
  const groups = new Map();
  for (const each of facts.attributes) {
    const key = each.relation_name;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(each.entity_name || each.entity);
  }
  const spans = [...groups].map(([relation, all]) => {
    const names = [...new Set(all)];
    const clear = names.filter((name) => !OPAQUE.test(name) || names.length === 1 && /^\d+$/.test(name));
    const rest = names.length - Math.min(clear.length, MOST_NAMES);
    const shown = clear.slice(0, MOST_NAMES).join(", ");
    const counted = !rest ? "" : clear.length ? `\u00a0+\u00a0${rest}` : `×\u00a0${rest}`;
    const value = h(`span${clear.length ? "" : ".relation"}`, {}, ` ${shown}${counted}`);
    return { named: clear.length > 0, span: h("span.attribute", {}, h("span.relation", {}, relation), value) };
  });
  const chosen = spans.sort((a, b) => b.named - a.named).slice(0, MOST_GROUPS).map(({ span }) => span);
  const more = groups.size - chosen.length;
  if (more > 0) chosen.push(h("span.attribute.relation", {}, `+ ${more} more`));
  return chosen;
}
