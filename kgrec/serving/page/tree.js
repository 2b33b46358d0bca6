// The receptive field of an item as an SVG tree: widths of edges are this user's attention.
// On a wide page the tree grows to the right; on a narrow one it is an outline.

import { freshId, h, number, s } from "./dom.js";

const FIRST = [6, 2]; // neighbours of the item, and of every other entity, that are drawn at once
const [THINNEST, WIDEST] = [1, 10];
const DOT = 5;
const ROW = 44;
const GAP = 10; // between a dot and its label
const SHORTEST = 56; // edge
const NARROWEST = 96; // label of a tree that grows to the right

const measuring = document.createElement("canvas").getContext("2d");

/** A figure with the tree, and the same as a list. */
export function receptiveField(root) {
  const place = h("div.drawing");
  const [titleId, describedId] = [freshId("tree"), freshId("tree")];
  let all = false;
  let width = 0;
  const hidden = size(root) - size(pruned(root, 0, false));
  const more = h("button.quiet", {
    type: "button",
    onclick: () => {
      all = true;
      more.hidden = true;
      paint();
    },
  }, `Draw ${hidden} weaker too`);
  more.hidden = hidden === 0;

  function paint() {
    if (width < 120) return;
    const title = `${root.name} and its neighbours in the graph`;
    place.replaceChildren(draw(pruned(root, 0, all), width, title, titleId, describedId));
  }

  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now === width) return;
    width = now;
    paint();
  }).observe(place);

  const about = h("p.help", {}, "The wider a line, the more this user's attention goes along it. ",
    h("span.liked-key", {}, "Filled"), ": liked, or shared with a liked item.");
  return h("figure.field", {}, h("h5", {}, "Receptive field"), place, h("figcaption", {}, about,
    h("p.row", {}, more),
    h("details.list", {}, h("summary", {}, "The same as a list"), h("ul", {}, asList(root)))));
}

function asList(node) {
  const weight = node.relation_name ? ` (${detailOf(node)})` : "";
  const below = node.children.length ? h("ul", {}, ...node.children.map(asList)) : null;
  return h("li", {}, h("span", { dir: "auto" }, node.name), weight, below);
}

const detailOf = (node) => [node.relation_name, number(node.weight), node.liked && "liked"].filter(Boolean).join(" · ");

const size = (node) => 1 + node.children.reduce((sum, child) => sum + size(child), 0);

function pruned(node, depth, all) {
  const kept = all ? node.children : node.children.slice(0, FIRST[Math.min(depth, 1)]);
  return { ...node, children: kept.map((child) => pruned(child, depth + 1, all)) };
}

function draw(root, width, title, titleId, describedId) {
  const fonts = fontsOf();
  const widths = [];
  measure(root, 0, widths, fonts);
  const hops = widths.length - 1;
  const most = (width - hops * SHORTEST) / (hops + 1) - GAP - 2 * DOT;
  const outline = most < NARROWEST;
  const rows = outline ? placeOutline(root, 0, 0, width) : placeTree(root, columns(widths, most, width), 0, 0);
  const weights = [];
  each(root, (node) => weights.push(...node.children.map((child) => child.weight)));
  const largest = Math.max(...weights, 1e-9);
  const edges = s("g.edges");
  const nodes = s("g.nodes");
  each(root, (node) => {
    node.shown = fit(node.name, node.room, node === root ? fonts.root : fonts.label);
    node.shownDetail = node === root ? "" : fit(detailOf(node), node.room, fonts.detail);
    const lengths = [lengthOf(node.shown, node === root ? fonts.root : fonts.label), lengthOf(node.shownDetail, fonts.detail)];
    node.drawn = Math.max(...lengths) + GAP;
  });
  each(root, (node) => {
    for (const child of node.children) {
      const thick = THINNEST + (WIDEST - THINNEST) * (child.weight / largest);
      edges.append(s(`path.edge${child.liked ? ".liked" : ""}`, {
        d: outline ? elbow(node, child) : curve(node, child), "stroke-width": thick.toFixed(2), fill: "none",
      }));
    }
    nodes.append(label(node, node === root));
  });
  const height = rows * ROW + 8;
  return s("svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-labelledby": `${titleId} ${describedId}`,
  },
  s("title", { id: titleId }, title),
  s("desc", { id: describedId }, summary(root)), edges, nodes);
}

function summary(root) {
  const first = root.children.map((child) => `${child.name} (${detailOf(child)})`);
  return `Neighbours, the largest weight first: ${first.join("; ")}.`;
}

function each(node, visit) {
  visit(node);
  for (const child of node.children) each(child, visit);
}

// ------------------------------------------------------------ places

/** Widest label of every depth. */
function measure(node, depth, widths, fonts) {
  const texts = [[node.name, depth ? fonts.label : fonts.root], [depth ? detailOf(node) : "", fonts.detail]];
  widths[depth] = Math.max(widths[depth] ?? 0, ...texts.map(([text, font]) => lengthOf(text, font)));
  for (const child of node.children) measure(child, depth + 1, widths, fonts);
}

/** Left end and label width of every depth: what labels do not need goes to the edges. */
function columns(widths, most, width) {
  const labels = widths.map((each) => Math.min(Math.ceil(each) + 2, most));
  const free = width - labels.reduce((sum, each) => sum + each + GAP + 2 * DOT, 0);
  const edge = labels.length > 1 ? Math.min(free / (labels.length - 1), 150) : 0;
  let x = DOT + 1;
  return labels.map((room) => {
    const column = { x, room };
    x += DOT + GAP + room + edge;
    return column;
  });
}

function placeTree(node, places, depth, row) {
  const { x, room } = places[depth];
  Object.assign(node, { x, room });
  let next = row;
  for (const child of node.children) next = placeTree(child, places, depth + 1, next);
  const ends = [node.children[0], node.children.at(-1)];
  node.y = node.children.length ? (ends[0].y + ends[1].y) / 2 : (row + 0.5) * ROW;
  return node.children.length ? next : row + 1;
}

function placeOutline(node, depth, row, width) {
  const x = DOT + 1 + depth * 28;
  Object.assign(node, { x, y: (row + 0.5) * ROW, room: width - x - DOT - GAP });
  let next = row + 1;
  for (const child of node.children) next = placeOutline(child, depth + 1, next, width);
  return next;
}

function curve(from, to) {
  const start = from.x + DOT + GAP + from.drawn;
  const middle = (start + to.x) / 2;
  return `M${start} ${from.y}C${middle} ${from.y} ${middle} ${to.y} ${to.x} ${to.y}`;
}

function elbow(from, to) {
  return `M${from.x} ${from.y}V${to.y - 14}Q${from.x} ${to.y} ${from.x + 14} ${to.y}H${to.x}`;
}

// ------------------------------------------------------------ labels

function label(node, isRoot) {
  const x = node.x + DOT + GAP;
  const group = s(`g.node${node.liked ? ".liked" : ""}${isRoot ? ".root" : ""}`, {},
    s("title", {}, isRoot ? node.name : `${node.name}: ${detailOf(node)}`),
    s("circle", { cx: node.x, cy: node.y, r: DOT }),
    s("text.name", { x, y: node.y + (isRoot ? 5 : -2) }, node.shown));
  if (!isRoot) group.append(s("text.detail", { x, y: node.y + 14 }, node.shownDetail));
  return group;
}

function fontsOf() {
  const family = getComputedStyle(document.body).fontFamily;
  return { root: `600 15px ${family}`, label: `14px ${family}`, detail: `12px ${family}` };
}

function lengthOf(text, font) {
  measuring.font = font;
  return measuring.measureText(text).width;
}

/** The text, cut to a width. */
function fit(text, room, font) {
  if (lengthOf(text, font) <= room) return text;
  const letters = [...text];
  let [low, high] = [0, letters.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (lengthOf(`${letters.slice(0, middle).join("")}…`, font) <= room) low = middle;
    else high = middle - 1;
  }
  return `${letters.slice(0, low).join("").trimEnd()}…`;
}
