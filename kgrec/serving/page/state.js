// What is shown, kept in the hash of the address: a view can be shared, and Back goes back. Browsers
// send no hash, so ids of users are in no log.

export const FEWEST = 10;
const MOST = 100;
const LIMIT = 3; // weights from 2^-3 to 2^3

/** State of an empty hash. Weights are powers of two, by relation in words. */
const initial = () => ({
  kind: "known", user: null, likes: [], run: null, beside: null, k: FEWEST, seen: false, item: null,
  weights: {},
});

/** The state of a hash; what it cannot read is left out. */
export function parse(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const state = initial();
  for (const key of ["user", "run", "beside", "item"]) state[key] = query.get(key) || null;
  state.likes = [...new Set(query.getAll("like").filter(Boolean))];
  if (query.get("new") !== null || state.likes.length) state.kind = "new";
  state.seen = query.get("seen") === "1";
  const k = Number(query.get("k"));
  if (Number.isInteger(k) && k > 0) state.k = Math.min(k, MOST);
  for (const [key, value] of query) {
    const power = Number(value);
    if (!key.startsWith("w.") || !Number.isFinite(power) || power === 0) continue;
    state.weights[key.slice(2)] = Math.max(-LIMIT, Math.min(LIMIT, power));
  }
  return state;
}

/** The hash of a state. */
export function format(state) {
  const query = new URLSearchParams();
  if (state.kind === "new") query.set("new", "");
  if (state.kind === "new") for (const item of state.likes) query.append("like", item);
  else if (state.user) query.set("user", state.user);
  for (const key of ["run", "beside", "item"]) if (state[key]) query.set(key, state[key]);
  if (state.k !== FEWEST) query.set("k", state.k);
  if (state.seen) query.set("seen", "1");
  for (const [name, power] of Object.entries(state.weights)) if (power) query.set(`w.${name}`, power);
  return query.toString();
}

/** Whether there is someone to recommend to. */
export const hasSubject = (state) => (state.kind === "new" ? state.likes.length > 0 : Boolean(state.user));

/** Multipliers by raw relation of a run, or null where all are as learned. */
export function multipliers(state, run, relationText) {
  if (!run.abilities.relation_weights) return null;
  const chosen = run.relations.filter((relation) => state.weights[relationText(relation)]);
  if (!chosen.length) return null;
  return Object.fromEntries(chosen.map((each) => [each.relation, 2 ** state.weights[relationText(each)]]));
}
