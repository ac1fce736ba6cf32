// The pipeline's view: its figures, its graph, the chosen node with its SQL, the dead letters.

import { byId, keyed, make, message, setAttribute, setHidden, setText, terms } from "./dom.js";
import { NONE, bytes, clock, count, dateTime, duration, instant, rate } from "./format.js";
import { Graph, badOf, lagOf, titleOf } from "./graph.js";
import { t, word } from "./language.js";
import { showSql } from "./sql.js";

const FIGURES = [
  ["phase", (pipe) => word("phase", pipe.phase)],
  ["epoch", (pipe) => count(pipe.epoch)],
  ["checkpoint", (pipe) => duration(pipe.checkpoint_age_seconds)],
  ["rate", (pipe) => rate(pipe.rows_per_second)],
  ["in", (pipe) => count(pipe.rows_in)],
  ["out", (pipe) => count(pipe.rows_out)],
  ["lag", (pipe) => count(pipe.lag)],
  ["late", (pipe) => count(pipe.late_rows)],
  ["bad", (pipe) => count(pipe.bad_rows)],
  ["state", (pipe) => bytes(pipe.state_bytes)],
  ["uptime", (pipe) => duration(pipe.uptime_seconds)],
];

/** Smaller than this a graph is scrolled rather than fitted, until a person says otherwise. */
const READABLE = 0.72;
/** Letters of a dead letter's value. */
const LONGEST = 1000;

export class PipelineView {
  #snapshot = null;
  #selected = null;
  #files = null;
  #fitted = false;
  #shown = "";
  #graph = new Graph(byId("graph"), (id) => this.#select(id));

  constructor() {
    byId("node-whole").addEventListener("change", () => this.#whole());
    byId("graph-fit").addEventListener("change", (event) => this.#fit(event.target.checked));
    byId("graph-table").addEventListener("toggle", () => this.#table());
  }

  show(pipe) {
    this.#snapshot = pipe;
    if (!pipe) return;
    setText(byId("pipeline-name"), `${pipe.pipeline} · acequia ${pipe.version}`);
    const trouble = byId("trouble");
    setHidden(trouble, !pipe.trouble);
    setText(byId("trouble-text"), pipe.trouble ? String(pipe.trouble) : "");
    terms(
      byId("pipe-figures"),
      FIGURES.map(([name, value]) => [t(`pipe.${name}`), value(pipe), name]),
    );
    const nodes = pipe.nodes ?? [];
    message(byId("graph-nothing"), nodes.length > 0 ? null : t("graph.none"));
    this.#graph.show(nodes, this.#selected);
    if (nodes.length > 0 && !this.#fitted) {
      this.#fit(this.#graph.scale() > READABLE);
      this.#graph.reveal();
    }
    this.#node();
    this.#table();
    deadLetters(pipe.dead_letters ?? []);
  }

  rebuild() {
    this.show(this.#snapshot);
  }

  #fit(whole) {
    this.#fitted = true;
    byId("graph-fit").checked = whole;
    setAttribute(byId("graph").parentElement, "data-fit", whole);
  }

  #select(id) {
    this.#selected = id;
    this.#graph.show(this.#snapshot.nodes, id);
    this.#node();
  }

  #node() {
    const nodes = this.#snapshot.nodes ?? [];
    const node = nodes.find((candidate) => candidate.id === this.#selected);
    setHidden(byId("node-none"), Boolean(node));
    setHidden(byId("node"), !node);
    if (!node) return;
    setText(byId("node-name"), titleOf(node));
    setText(byId("node-describe"), node.describe ?? "");
    const named = (ids) =>
      ids
        .map((id) => nodes.find((other) => other.id === id))
        .filter(Boolean)
        .map(titleOf)
        .join(", ");
    const feeds = nodes.filter((other) => other.inputs.includes(node.id)).map((other) => other.id);
    const bad = Object.entries(node.bad_rows ?? {}).map(([reason, rows]) => `${reason} ${count(rows)}`);
    const figures = [
      ["role", word("role", node.role)],
      ["table", node.table ?? null],
      ["rate", rate(node.rows_per_second)],
      ["in", count(node.rows_in)],
      ["out", count(node.rows_out)],
      ["lag", node.role === "source" ? count(lagOf(node) ?? 0) : null],
      ["watermark", node.watermark ? dateTime(instant(node.watermark)) : null],
      ["behind", typeof node.watermark_lag_seconds === "number" ? duration(node.watermark_lag_seconds) : null],
      ["state", node.role === "operator" || node.state_bytes > 0 ? bytes(node.state_bytes) : null],
      ["late", count(node.late_rows)],
      ["bad", node.role === "source" || bad.length > 0 ? bad.join(", ") || "0" : null],
      ["settled", node.delivery ? count(node.delivery.settled_epoch) : null],
      ["undelivered", node.delivery ? count(node.delivery.undelivered_rows) : null],
      ["waiting", typeof node.delivery?.waiting_seconds === "number" ? duration(node.delivery.waiting_seconds) : null],
      ["from", named(node.inputs) || null],
      ["to", named(feeds) || null],
    ];
    terms(
      byId("node-figures"),
      figures.filter(([, value]) => value !== null).map(([name, value]) => [t(`node.${name}`), value, name]),
    );
    this.#sql(node.sql);
  }

  /** Drawn again only when it is another text: a selection in it stays. */
  #sql(sql) {
    const whole = byId("node-whole").checked && sql ? this.#files?.find(({ file }) => file === sql.file) : null;
    const shown = JSON.stringify([sql, Boolean(whole)]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    setText(byId("node-place"), sql ? `${sql.file}:${sql.line}` : "");
    message(byId("node-nosql"), sql ? null : t("node.nosql"));
    const code = byId("node-sql");
    setHidden(code.parentElement, !sql);
    setHidden(byId("node-whole").parentElement, !sql);
    if (!sql) return;
    const lines = sql.text.trimEnd().split("\n").length;
    if (whole) showSql(code, whole.text.trimEnd(), 1, { from: sql.line, to: sql.line + lines - 1 });
    else showSql(code, sql.text.trimEnd(), sql.line);
    const pane = code.parentElement;
    pane.scrollTop = whole ? Math.max(0, (code.querySelector(".marked")?.offsetTop ?? 0) - pane.clientHeight / 4) : 0;
  }

  async #whole() {
    if (byId("node-whole").checked && !this.#files) {
      try {
        this.#files = await (await fetch("api/page/sql")).json();
      } catch {
        // The banner says already that the server is gone; the next time asks again.
        byId("node-whole").checked = false;
        return;
      }
    }
    this.#node();
  }

  /** The graph for those who would rather read it. */
  #table() {
    if (!byId("graph-table").open || !this.#snapshot) return;
    const cells = (node) => [
      titleOf(node),
      word("role", node.role),
      rate(node.rows_per_second),
      node.role === "source" ? count(lagOf(node) ?? 0) : NONE,
      duration(node.watermark_lag_seconds),
      bytes(node.state_bytes),
      node.delivery ? count(node.delivery.undelivered_rows) : NONE,
      count(badOf(node)),
    ];
    keyed(
      byId("graph-rows"),
      this.#snapshot.nodes ?? [],
      (node) => node.id,
      (node) =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }),
          make("td"),
          ...cells(node)
            .slice(2)
            .map(() => make("td", { class: "number" })),
        ),
      (row, node) => cells(node).forEach((text, place) => setText(row.cells[place], text)),
    );
  }
}

function deadLetters(letters) {
  message(byId("dead-nothing"), letters.length > 0 ? null : t("dead.none"));
  setText(byId("dead-note"), letters.length > 0 ? t("dead.note", { count: count(letters.length) }) : "");
  setHidden(byId("dead"), letters.length === 0);
  // The same record may be refused twice, by two tables or after a restart.
  const seen = new Map();
  const rows = letters.map((letter) => {
    const text = JSON.stringify(letter);
    const times = seen.get(text) ?? 0;
    seen.set(text, times + 1);
    return { letter, key: `${times} ${text}` };
  });
  keyed(
    byId("dead").querySelector("tbody"),
    rows,
    ({ key }) => key,
    () =>
      make(
        "tr",
        { role: "row" },
        make("td", { role: "cell", class: "when" }),
        make("th", { role: "rowheader", scope: "row" }),
        make("td", { role: "cell" }),
        make("td", { role: "cell", class: "error", lang: "en" }),
        make("td", { role: "cell", class: "place" }),
        make("td", { role: "cell", class: "value" }, make("code")),
      ),
    (row, { letter }) => {
      const at = instant(letter.timestamp);
      const [when, table, reason, error, place, value] = row.cells;
      setText(when, at ? `${clock(at)}` : NONE);
      setAttribute(when, "title", at ? dateTime(at) : null);
      setText(table, letter.table ?? NONE);
      setText(reason, letter.reason ?? NONE);
      setText(error, letter.error ?? NONE);
      setText(place, placeOf(letter));
      setText(value.firstElementChild, shortened(letter.value));
    },
  );
}

/** A record may be of any size; its beginning tells what it is. */
function shortened(value) {
  if (value === null || value === undefined) return NONE;
  return value.length > LONGEST ? `${value.slice(0, LONGEST)}… (${count(value.length)})` : value;
}

/** `topic[partition]@offset`, as far as it is known. */
function placeOf({ topic, partition, offset }) {
  const known = (value) => value !== null && value !== undefined;
  return `${topic ?? ""}${known(partition) ? `[${partition}]` : ""}${known(offset) ? `@${offset}` : ""}` || NONE;
}
