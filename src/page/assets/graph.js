// The dataflow as a drawing: laid out once for a graph, its figures changed in place. One node takes part in the tab
// order; arrow keys go to the others.

import { draw, setAttribute, setHidden, setText } from "./dom.js";
import { bytes, count, duration, rate, shortCount } from "./format.js";
import { t, word } from "./language.js";
import { layout } from "./layout.js";

const SIZE = { width: 184, height: 76, column: 48, row: 14, lane: 10 };
const MARGIN = 8;
/** How many letters fit into a node, and into the right half of its second line. */
const LETTERS = 21;
const FEW_LETTERS = 15;

export const lagOf = ({ lag }) =>
  typeof lag === "object" && lag !== null ? Object.values(lag).reduce((sum, part) => sum + part, 0) : lag;
export const badOf = ({ bad_rows: bad }) => Object.values(bad ?? {}).reduce((sum, part) => sum + part, 0);
export const titleOf = (node) => (node.role === "operator" ? node.name : (node.table ?? node.name));

export class Graph {
  #svg;
  #chosen;
  #built = "";
  #nodes = new Map();
  #edges = [];
  #places = new Map();
  #current = null;

  /** `chosen(id)` is called when a person chooses a node. */
  constructor(svg, chosen) {
    this.#svg = svg;
    this.#chosen = chosen;
    svg.addEventListener("keydown", (event) => this.#key(event));
  }

  show(nodes, selected) {
    setHidden(this.#svg.parentElement, nodes.length === 0);
    const shape = JSON.stringify(nodes.map(({ id, inputs, role, name, table }) => [id, inputs, role, name, table]));
    if (shape !== this.#built) {
      this.#built = shape;
      this.#build(nodes);
    }
    for (const node of nodes) this.#update(node, node.id === selected);
    const rates = new Map(nodes.map((node) => [node.id, node.rows_per_second ?? 0]));
    for (const { from, path } of this.#edges) {
      // From a hair to a stream: by the order of magnitude.
      const width = 1.25 + Math.min(4, Math.log10(1 + (rates.get(from) ?? 0)));
      setAttribute(path, "stroke-width", width.toFixed(1));
      setAttribute(path, "data-live", (rates.get(from) ?? 0) > 0);
    }
  }

  /** How large it would be drawn in the room that it has, to its own size. */
  scale() {
    const wide =
      this.#svg.viewBox.baseVal.width * (parseFloat(getComputedStyle(document.documentElement).fontSize) / 16);
    return this.#svg.parentElement.clientWidth / wide;
  }

  /** Brings the first node into sight of a graph that is larger than its room. */
  reveal() {
    const { group } = this.#nodes.get(this.#current);
    const [pane, node] = [this.#svg.parentElement, group.getBoundingClientRect()];
    pane.scrollTop += node.top + node.height / 2 - pane.getBoundingClientRect().top - pane.clientHeight / 2;
  }

  #build(nodes) {
    const { places, edges, width, height } = layout(nodes, SIZE);
    this.#places = places;
    const [wide, high] = [width + 2 * MARGIN, height + 2 * MARGIN];
    setAttribute(this.#svg, "viewBox", `${-MARGIN} ${-MARGIN} ${wide} ${high}`);
    this.#svg.style.setProperty("--wide", wide);
    this.#svg.style.setProperty("--high", high);
    this.#edges = edges.map(({ from, to, points }) => ({
      from,
      to,
      path: draw("path", { class: "edge", d: curve(points) }),
    }));
    this.#nodes = new Map(nodes.map((node) => [node.id, this.#node(node)]));
    if (!this.#nodes.has(this.#current)) this.#current = nodes[0]?.id ?? null;
    this.#svg.replaceChildren(
      ...this.#edges.map(({ path }) => path),
      ...[...this.#nodes.values()].map(({ group }) => group),
    );
  }

  #node(node) {
    const { x, y } = this.#places.get(node.id);
    const parts = {
      name: draw("text", { class: "name", x: 16, y: 22 }),
      rate: draw("text", { class: "rate", x: 16, y: 44 }),
      role: draw("text", { class: "role", x: SIZE.width - 12, y: 44, "text-anchor": "end" }),
      figures: draw("text", { class: "figures", x: 16, y: 64 }),
    };
    const title = titleOf(node);
    const { name, query } = partsOf(node);
    const group = draw(
      "g",
      { class: "node", role: "button", transform: `translate(${x} ${y})`, "data-role": node.role, "data-id": node.id },
      shortened(name, LETTERS) === title && query === null ? null : draw("title", {}, title),
      draw("rect", { class: "box", width: SIZE.width, height: SIZE.height, rx: 9 }),
      draw("path", { class: "stripe", d: `M9 0H7V${SIZE.height}H9A9 9 0 0 1 0 ${SIZE.height - 9}V9A9 9 0 0 1 9 0` }),
      // What it is called for those who do not see it is all of this, with room between the words.
      ...Object.values(parts).flatMap((part) => [part, " "]),
    );
    group.addEventListener("click", () => this.#choose(node.id));
    group.addEventListener("focus", () => this.#become(node.id));
    return { group, ...parts };
  }

  #update(node, selected) {
    const { group, name, rate: speed, role, figures } = this.#nodes.get(node.id);
    const { name: own, query } = partsOf(node);
    setText(name, shortened(own, LETTERS));
    setText(speed, node.rows_per_second < 10000 ? rate(node.rows_per_second) : `${shortCount(node.rows_per_second)}/s`);
    setText(role, query === null ? word("role", node.role) : shortened(query, FEW_LETTERS));
    const said = short(node);
    setText(figures, said.join(" · "));
    setAttribute(figures, "data-bad", badOf(node) > 0);
    setAttribute(group, "aria-pressed", String(selected));
    setAttribute(group, "tabindex", node.id === this.#current ? 0 : -1);
    setAttribute(group, "data-trouble", (node.delivery?.waiting_seconds ?? 0) > 5);
  }

  #choose(id) {
    this.#become(id);
    this.#chosen(id);
  }

  #become(id) {
    setAttribute(this.#nodes.get(this.#current)?.group ?? this.#svg, "tabindex", -1);
    this.#current = id;
    setAttribute(this.#nodes.get(id).group, "tabindex", 0);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || this.#current === null) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#choose(this.#current);
      return;
    }
    const next = this.#next(event.key);
    if (next === null) return;
    event.preventDefault();
    this.#nodes.get(next).group.focus();
  }

  /** Along an edge to the left and right, within the layer up and down. */
  #next(key) {
    const here = this.#places.get(this.#current);
    const nearest = (ids) =>
      ids.toSorted((a, b) => Math.abs(this.#places.get(a).y - here.y) - Math.abs(this.#places.get(b).y - here.y))[0] ??
      null;
    const layer = [...this.#places]
      .filter(([, place]) => place.layer === here.layer)
      .toSorted(([, a], [, b]) => a.y - b.y)
      .map(([id]) => id);
    const at = layer.indexOf(this.#current);
    switch (key) {
      case "ArrowRight":
        return nearest(this.#edges.filter(({ from }) => from === this.#current).map(({ to }) => to));
      case "ArrowLeft":
        return nearest(this.#edges.filter(({ to }) => to === this.#current).map(({ from }) => from));
      case "ArrowDown":
        return layer[at + 1] ?? null;
      case "ArrowUp":
        return layer[at - 1] ?? null;
      case "Home":
        return layer[0];
      case "End":
        return layer.at(-1);
      default:
        return null;
    }
  }
}

/** An operator's name is its query's and its own, as in `metrics_transactions.window`. */
function partsOf(node) {
  const title = titleOf(node);
  const dot = node.role === "operator" ? title.lastIndexOf(".") : -1;
  return dot > 0 ? { name: title.slice(dot + 1), query: title.slice(0, dot) } : { name: title, query: null };
}

const shortened = (text, letters) => (text.length > letters ? `${text.slice(0, letters - 1)}…` : text);

/** A node is narrow. */
const few = (value) => (value < 100000 ? count(value) : shortCount(value));

/** The figures that a node has anything to say about. */
function short(node) {
  const said = [];
  if (node.role === "source") said.push(t("graph.lag", { value: few(lagOf(node) ?? 0) }));
  if (typeof node.watermark_lag_seconds === "number")
    said.push(t("graph.behind", { value: duration(node.watermark_lag_seconds) }));
  if (badOf(node) > 0) said.unshift(t("graph.bad", { value: count(badOf(node)) }));
  if (node.state_bytes > 0) said.push(bytes(node.state_bytes));
  if (node.delivery) said.push(t("graph.waiting", { value: few(node.delivery.undelivered_rows) }));
  return said;
}

function curve([first, ...points]) {
  let [x, y] = first;
  let path = `M${x} ${y}`;
  for (const [toX, toY] of points) {
    const half = (toX - x) / 2;
    path += toY === y ? `H${toX}` : `C${x + half} ${y} ${toX - half} ${toY} ${toX} ${toY}`;
    [x, y] = [toX, toY];
  }
  return path;
}
