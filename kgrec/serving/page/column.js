// The recommendations of one run.

import { Fault, call, latest, pause } from "./api.js";
import { cards } from "./cards.js";
import { capital, faultBox, h, relationText } from "./dom.js";
import { format, hasSubject, multipliers } from "./state.js";
import { explanation, REASONS, sourceInWords } from "./why.js";

const NEW_USER = "new user";
const MOST_EXPLAINED = 50; // items of which a clause is asked for
const QUIET = 250; // ms without a moved slider before reasons are asked for

/** One run and its list; `current` is the state of the page, `loaded` is called after each answer. */
export class Column {
  constructor({ current, seenItems, loaded, opened }) {
    Object.assign(this, { current, seenItems, loaded });
    this.run = null;
    this.rows = [];
    this.learned = null; // {key, items}: the list without weights
    this.explained = { key: null };
    this.title = h("h3");
    this.facts = h("p.facts");
    this.source = h("p.notice", { hidden: true });
    this.fault = h("div");
    this.list = h("ol.cards", { tabindex: "-1" });
    this.element = h("section.column", { "aria-busy": "false" },
      h("div.about", {}, this.title, this.facts), this.source, this.fault, this.list);
    this.cards = cards(this.list, opened);
    this.load = latest((signal, more) => this.work(signal, more));
    this.explain = latest((signal) => this.workExplain(signal));
  }

  /** Sets the run; another one empties the list. */
  show(run) {
    if (this.run?.name === run.name) return;
    this.run = run;
    this.learned = null;
    this.empty();
    const metrics = [["test/auc", "test AUC"], ["test/recall@20", "test Recall@20"]]
      .filter(([key]) => typeof run.metrics[key] === "number")
      .map(([key, name]) => `${name} ${run.metrics[key].toFixed(3)}`);
    this.title.textContent = run.name === "default" ? run.model : run.name;
    const sizes = `${run.users.toLocaleString("en")} users, ${run.items.toLocaleString("en")} items`;
    const names = run.name === "default" || run.name === run.model ? [run.dataset] : [run.model, run.dataset];
    this.facts.textContent = [...names, sizes, ...metrics].filter(Boolean).join(" · ");
  }

  empty() {
    this.rows = [];
    this.subject = null;
    this.cards.clear();
    this.fault.replaceChildren();
    this.source.hidden = true;
    this.explained = { key: null };
  }

  get weights() {
    return multipliers(this.current(), this.run, relationText);
  }

  body(state, further) {
    const who = state.kind === "new" ? { histories: { [NEW_USER]: state.likes } } : { users: [state.user] };
    const k = Math.min(state.k, this.run.items);
    return { ...who, k, exclude_seen: !state.seen, run: this.run.name, ...further };
  }

  async work(signal, more) {
    const state = this.current();
    if (!hasSubject(state)) {
      this.empty();
      this.loaded();
      return;
    }
    const subject = format({ ...state, item: null, beside: null, run: null, weights: {}, k: 0, seen: false });
    const sameSubject = this.subject === subject;
    const timer = setTimeout(() => this.element.setAttribute("aria-busy", "true"), 150);
    try {
      const [answer, learned] = await Promise.all([
        call("recommend", { body: this.body(state, { relation_weights: this.weights }), signal }),
        this.weights ? this.asLearned(state, signal) : null,
      ]);
      if (!sameSubject) this.cards.clear();
      this.subject = subject;
      this.fault.replaceChildren();
      this.fill(answer, learned, state, sameSubject);
      clearTimeout(timer);
      this.element.setAttribute("aria-busy", "false");
      if (state.k <= MOST_EXPLAINED) await this.reasons(state, signal, more, sameSubject);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this.empty();
      this.fault.replaceChildren(faultBox(error.message, () => this.load()));
      this.loaded();
    } finally {
      clearTimeout(timer);
      this.element.setAttribute("aria-busy", "false");
    }
  }

  /** The list without weights, by item: what changes are measured against. */
  async asLearned(state, signal) {
    const key = format({ ...state, item: null, beside: null, weights: {} });
    if (this.learned?.key !== key) {
      const answer = await call("recommend", { body: this.body(state, {}), signal });
      this.learned = { key, items: new Map(answer.results[0].items.map((row) => [row.item, row])) };
    }
    return this.learned.items;
  }

  fill(answer, learned, state, animate) {
    const [result] = answer.results;
    const seen = this.seenItems();
    const notes = [sourceInWords(result.source)];
    const moved = Object.values(state.weights).some(Boolean);
    if (moved && !this.run.abilities.relation_weights) {
      notes.push(`The sliders do not change ${this.run.model}: it has no attention to relations.`);
    }
    if (!result.items.length) notes.push("No item is left to recommend.");
    this.source.textContent = notes.filter(Boolean).join(" ");
    this.source.hidden = !this.source.textContent;
    this.rows = result.items.map((row) => {
      const was = learned?.get(row.item);
      const marks = [];
      if (state.seen && seen.has(row.item)) marks.push({ text: "in the history", kind: "seen" });
      if (learned && !was) marks.push({ text: "new in the list", kind: "up" });
      if (was && was.rank !== row.rank) marks.push(moves(was.rank - row.rank, `was ${was.rank}`));
      return { ...row, why: undefined, own: marks, marks, change: was ? row.score - was.score : null };
    });
    this.draw(animate);
    this.loaded();
  }

  draw(animate) {
    this.cards.show(this.run.name, this.rows, animate);
  }

  /** Marks items that the other column has too. */
  compare(other) {
    const places = new Map((other?.rows ?? []).map((row) => [row.item, row.rank]));
    for (const row of this.rows) {
      const rank = places.get(row.item);
      row.marks = [...row.own];
      if (rank === undefined) continue;
      const by = rank - row.rank;
      const how = by === 0 ? "the same rank" : `${Math.abs(by)} ${by > 0 ? "higher" : "lower"} here`;
      row.marks.push({ text: `No. ${rank} in ${other.title.textContent}, ${how}`, kind: "both" });
    }
    this.draw(false);
    for (const row of this.rows) {
      this.cards.get(row.item).element.classList.toggle("in-both", places.has(row.item));
    }
  }

  /** Asks for the clause of each item, once the sliders rest. */
  async reasons(state, signal, more, wait) {
    if (wait) await pause(QUIET, signal);
    if (more()) return;
    const body = this.body(state, { relation_weights: this.weights, why: true });
    const answer = await call("recommend", { body, signal }).catch((error) => {
      if (error instanceof Fault) return null; // the list stands; an opened card says what is wrong
      throw error;
    });
    if (!answer || more()) return;
    const why = new Map(answer.results[0].items.map((row) => [row.item, row.why]));
    for (const row of this.rows) row.why = why.get(row.item) ?? row.why;
    this.draw(false);
  }

  // ------------------------------------------------------------ why

  /** Opens the card of the state's item, and closes the others. */
  open() {
    const state = this.current();
    for (const row of this.rows) {
      const card = this.cards.get(row.item);
      const isOpen = row.item === state.item;
      card.button.setAttribute("aria-expanded", String(isOpen));
      card.element.classList.toggle("open", isOpen);
      card.detail.hidden = !isOpen;
    }
    if (state.item) this.explain();
  }

  async workExplain(signal) {
    const state = this.current();
    const card = state.item && this.cards.get(state.item);
    if (!card) return;
    const key = `${this.run.name}?${format({ ...state, beside: null, run: null })}`;
    const explained = card.detail.childElementCount > 0;
    if (this.explained.key === key && explained) return;
    if (this.explained.item === state.item && explained) await pause(QUIET, signal);
    const listOpen = Boolean(card.detail.querySelector("details.list[open]"));
    const waiting = h("p.help", { role: "status" }, "Asking the model why …");
    if (!explained) card.detail.replaceChildren(waiting);
    try {
      const who = state.kind === "new" ? { user: NEW_USER, history: state.likes } : { user: state.user };
      const body = { ...who, item: state.item, top: REASONS, relation_weights: this.weights, run: this.run.name };
      const answer = await call("explain", { body, signal });
      card.detail.replaceChildren(...explanation(answer));
      if (listOpen) card.detail.querySelector("details.list")?.setAttribute("open", "");
      card.why.textContent = card.why.textContent || capital(answer.text);
      this.explained = { key, item: state.item };
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this.explained = { key: null };
      card.detail.replaceChildren(faultBox(error.message, () => this.explain()));
    }
  }
}

function moves(by, text) {
  return { text: `${by > 0 ? "↑" : "↓"} ${Math.abs(by)}, ${text}`, kind: by > 0 ? "up" : "down" };
}
