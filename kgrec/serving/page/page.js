// The page: reads the state from the hash, shows it, and writes changes back.

import { below, call, fact, onMissingToken } from "./api.js";
import { Column } from "./column.js";
import { combobox } from "./combobox.js";
import { byId, count, faultBox, h, titleOf } from "./dom.js";
import { sliders } from "./sliders.js";
import { FEWEST, format, hasSubject, parse } from "./state.js";

const FIRST_OF_HISTORY = 12;
const WIDE = "(min-width: 56rem)";

let state = parse(location.hash);
let runs = [];
let past = { key: null, items: [] };
let lastChange = "";
const columns = [0, 1].map(() => new Column({
  current: () => state,
  seenItems: () => new Set(state.kind === "new" ? state.likes : past.items.map((item) => item.item)),
  loaded: afterLoad,
  opened: (item) => change({ item: state.item === item ? null : item }),
}));

const first = () => runs.find((run) => run.name === state.run) ?? runs[0];
const second = () => runs.find((run) => run.name === state.beside && run !== first());
const shownColumns = () => columns.filter((column) => column.run && !column.element.hidden);

// ------------------------------------------------------------ state

/** Changes the state; changes of one slider in a row are one step back. */
function change(changes, kind = "") {
  state = { ...state, ...changes };
  const address = `#${format(state)}`;
  if (address !== (location.hash || "#")) {
    if (kind && kind === lastChange) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }
  lastChange = kind;
  show(!kind, "item" in changes && Object.keys(changes).length === 1);
}

function fromAddress() {
  state = parse(location.hash);
  lastChange = "";
  show(true);
}

// ------------------------------------------------------------ controls

const users = combobox({
  label: "User",
  placeholder: "Search by id",
  search: async (search, signal) => {
    const found = await call("users", { query: { search, limit: 8, run: first().name }, signal });
    return { matches: found.users, total: found.total };
  },
  describe: (match) => ({ text: match.user, detail: count(match.positives, "positive") }),
  choose: (match) => change({ user: match.user, item: null, k: FEWEST }),
  value: () => state.user ?? "",
});

const items = combobox({
  label: "Liked items",
  placeholder: "Search by title or id",
  search: async (search, signal) => {
    const found = await call("items", { query: { search, limit: 8, run: first().name }, signal });
    return { matches: found.items, total: found.total };
  },
  describe: (match) => ({
    text: titleOf(match), detail: match.name ? match.item : count(match.positives, "positive"),
  }),
  value: () => "",
  choose: (match) => {
    items.set("");
    change({ likes: [...new Set([...state.likes, match.item])], item: null });
  },
});

const chips = h("ul.chips", { "aria-label": "Liked items" });

const showSliders = sliders(
  byId("sliders"),
  (name, power) => change({ weights: { ...state.weights, [name]: power } }, `slider ${name}`),
  () => change({ weights: {} }),
);

function connect() {
  byId("known").append(users.element);
  byId("new").append(items.element, chips);
  for (const radio of document.querySelectorAll("input[name=kind]")) {
    radio.addEventListener("change", () => change({ kind: radio.value, item: null }));
  }
  byId("seen").addEventListener("change", (event) => change({ seen: event.target.checked }));
  byId("more").addEventListener("click", () => change({ k: state.k + FEWEST }));
  byId("run").addEventListener("change", ({ target }) => {
    change({ run: target.value, beside: state.beside === target.value ? null : state.beside });
  });
  byId("beside").addEventListener("change", ({ target }) => change({ beside: target.value || null }));
  byId("skip").addEventListener("click", () => byId("main").focus());
  byId("columns").append(...columns.map((column) => column.element));
  const wide = matchMedia(WIDE);
  const fold = () => ["weights", "history"].forEach((id) => (byId(id).open = wide.matches));
  wide.addEventListener("change", fold);
  fold();
  window.addEventListener("popstate", fromAddress);
}

// ------------------------------------------------------------ what is shown

/** Shows the state. A change of sliders does not interrupt answers; a card alone needs no new list. */
function show(interrupt, cardAlone = false) {
  if (!runs.length) return; // start shows the state
  const pair = [first(), second()];
  columns.forEach((column, place) => {
    column.element.hidden = !pair[place];
    if (pair[place]) column.show(pair[place]);
  });
  byId("columns").classList.toggle("beside", Boolean(second()));
  showControls(pair.filter(Boolean));
  showSubject();
  showHistory();
  if (cardAlone) shownColumns().forEach((column) => column.open());
  else shownColumns().forEach((column) => column.load(interrupt));
}

function showControls(shown) {
  for (const radio of document.querySelectorAll("input[name=kind]")) radio.checked = radio.value === state.kind;
  byId("known").hidden = state.kind === "new";
  byId("new").hidden = state.kind === "known";
  users.set(state.user ?? "");
  byId("seen").checked = state.seen;
  byId("weights").hidden = !showSliders(shown, state.weights) || !hasSubject(state);
  fillSelect(byId("run"), runs.map((run) => [run.name, run.name]), first().name);
  const others = runs.filter((run) => run !== first()).map((run) => [run.name, run.name]);
  fillSelect(byId("beside"), [["", "nothing"], ...others], second()?.name ?? "");
  const names = runs.map((run) => run.name);
  const missing = [state.run, state.beside].filter((name) => name && !names.includes(name));
  byId("missing").textContent = missing.length ? `Not served here: ${missing.join(", ")}.` : "";
  byId("missing").hidden = !missing.length;
  byId("run-choice").hidden = byId("beside-choice").hidden = runs.length < 2;
  showChips();
}

function fillSelect(select, options, value) {
  const key = JSON.stringify(options);
  if (select.dataset.options !== key) {
    select.dataset.options = key;
    select.replaceChildren(...options.map(([each, text]) => h("option", { value: each }, text)));
  }
  select.value = value;
}

function showChips() {
  const known = new Map([...chips.children].map((chip) => [chip.dataset.item, chip]));
  chips.replaceChildren(...state.likes.map((item) => known.get(item) ?? chip(item)));
  chips.hidden = !state.likes.length;
}

function chip(item) {
  const text = h("span", { dir: "auto" }, item);
  const remove = h("button", {
    type: "button", "aria-label": `Remove ${item}`,
    onclick: () => {
      change({ likes: state.likes.filter((each) => each !== item), item: null });
      items.input.focus();
    },
  }, "×");
  fact(below("items", item), { run: first().name }).then((facts) => {
    text.textContent = titleOf(facts);
    remove.setAttribute("aria-label", `Remove ${titleOf(facts)}`);
  }, () => {});
  return h("li.chip", { "data-item": item }, text, remove);
}

function showSubject() {
  const some = hasSubject(state);
  const subject = byId("subject");
  const likes = `someone who likes ${count(state.likes.length, "item")}`;
  const name = state.kind === "new" ? likes : `user ${state.user}`;
  subject.textContent = some ? `Recommendations for ${name}` : "Choose someone";
  document.title = some ? `${name} · kgrec` : "Recommendations · kgrec";
  document.querySelector(".check").hidden = !some;
  byId("columns").hidden = !some;
  byId("empty").hidden = some;
  byId("more-line").hidden = true;
  if (!some) showEmpty();
}

async function showEmpty() {
  const place = byId("empty");
  const run = first();
  if (state.kind === "new") {
    const hint = h("p", {}, "Search for items and choose those that someone likes.");
    place.replaceChildren(hint, foldInNote(run));
    return;
  }
  const search = `Search for one of the ${run.users.toLocaleString("en")} users`;
  const hint = h("p", {}, `${search}, or begin with one of these:`);
  place.replaceChildren(hint);
  const facts = h("p.help", {}, `${run.model} on ${run.dataset ?? "its data"}, ${count(run.items, "item")}.`);
  try {
    const { users: few } = await fact("users", { search: "", limit: 8, run: run.name });
    const buttons = few.map(({ user }) => h("li", {}, h("button.quiet", {
      type: "button", dir: "auto", onclick: () => change({ user, item: null }),
    }, user)));
    if (!place.hidden && state.kind === "known") place.replaceChildren(hint, h("ul.few", {}, ...buttons), facts);
  } catch (error) {
    place.replaceChildren(faultBox(error.message, showEmpty));
  }
}

function foldInNote(run) {
  const method = run.abilities.fold_in;
  const text = method
    ? `${run.model} infers the parameters of someone new from these items: fold-in (${method}).`
    : `${run.model} cannot infer the parameters of someone new, and gives the most popular items.`;
  return h("p.help", {}, text);
}

async function showHistory() {
  const key = state.kind === "known" && state.user ? JSON.stringify([first().name, state.user]) : null;
  byId("history").hidden = !key;
  if (!key || past.key === key) return;
  past = { key, items: [] };
  byId("history-count").textContent = "";
  byId("history-items").replaceChildren(h("p.help", {}, "Loading …"));
  try {
    const answer = await fact(below("users", state.user), { run: first().name });
    if (past.key !== key) return;
    past.items = answer.history;
    drawHistory(FIRST_OF_HISTORY);
  } catch (error) {
    if (past.key !== key) return;
    past.key = null;
    byId("history").hidden = error.status === 404; // the list says so
    byId("history-items").replaceChildren(faultBox(error.message));
  }
}

function drawHistory(most) {
  const all = past.items;
  byId("history-count").textContent = all.length.toLocaleString("en");
  const lines = all.slice(0, most).map((item) => h("li", { dir: "auto" }, titleOf(item)));
  const rest = all.length - lines.length;
  const onclick = () => drawHistory(all.length);
  const more = h("button.quiet", { type: "button", onclick }, `Show all ${all.length}`);
  byId("history-items").replaceChildren(
    all.length ? h("ul.plain", {}, ...lines) : h("p.help", {}, "This user has no positive."),
    rest > 0 ? more : "",
  );
}

/** After an answer: items of both lists, open cards, and the text for screen readers. */
function afterLoad() {
  const shown = shownColumns();
  shown.forEach((column, place) => column.compare(shown[1 - place]));
  shown.forEach((column) => column.open());
  const common = shown.length < 2 ? 0 : shown[0].rows.filter((row) => shown[1].cards.get(row.item)).length;
  byId("common").textContent = `${common || "No"} item${common === 1 ? " is" : "s are"} in both lists.`;
  byId("common").hidden = shown.length < 2 || shown.some((column) => !column.rows.length);
  const sizes = shown.map(({ rows, title }) => `${count(rows.length, "recommendation")}, ${title.textContent}`);
  byId("status").textContent = hasSubject(state) ? sizes.join("; ") : "";
  const full = shown.some((column) => column.rows.length === state.k && state.k < column.run.items);
  byId("more-line").hidden = !hasSubject(state) || !full || state.k >= 100;
}

// ------------------------------------------------------------ access and start

onMissingToken((words) => new Promise((resolve) => {
  const dialog = byId("access");
  byId("access-why").textContent = words;
  byId("token").value = "";
  byId("access-cancel").onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.onclose = () => resolve(dialog.returnValue === "send" ? byId("token").value : null);
  dialog.showModal();
}));

async function start() {
  const place = byId("empty");
  place.hidden = false;
  place.replaceChildren(h("p.help", { role: "status" }, "Loading the runs …"));
  try {
    ({ runs } = await call("runs"));
    byId("rail").hidden = false;
    show(true);
  } catch (error) {
    place.hidden = false;
    place.replaceChildren(faultBox(error.message, start));
  }
}

connect();
start();
