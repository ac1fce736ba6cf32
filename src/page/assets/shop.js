// The shop's view: lights, tiles, charts, totals, sessions and figures in detail, each from its part of the snapshot.

import { Charts, categories, kinds, newest } from "./charts.js";
import { byId, keyed, make, message, setAttribute, setHidden, setText, terms } from "./dom.js";
import { NONE, change, clock, count, dateTime, instant, money, share } from "./format.js";
import { t, word } from "./language.js";

const SYMBOLS = { ok: "✓", warn: "!", down: "✕", starting: "…" };
const TILES = [
  ["revenue", money],
  ["transactions", count],
  ["customers", count],
];
const TOTALS = [
  ["events", count],
  ["transactions", count],
  ["behavior", count],
  ["customers", count],
  ["active_days", count],
  ["first_event", (text) => dateTime(instant(text))],
  ["last_event", (text) => dateTime(instant(text))],
];
const OUTCOMES = ["conversion", "cart_abandonment", "bounce"];
const TRANSACTIONS = [
  ["field.window", "timestamp", (text) => clock(instant(text))],
  ["field.count", "transaction_count", count],
  ["field.total", "total_revenue", money],
  ["field.average", "avg_transaction_value", money],
  ["field.largest", "max_transaction", money],
  ["field.smallest", "min_transaction", money],
  ["field.customers", "unique_customers", count],
];
const CATEGORY = [
  ["product_sales", count],
  ["category_revenue", money],
  ["avg_category_value", money],
  ["total_quantity", count],
  ["unique_customers", count],
  ["unique_products", count],
];
/** Screen readers hear of a final window at most so often. */
const SPEAK_MS = 60000;

export class ShopView {
  #charts = new Charts();
  #spoken = { window: null, at: 0 };

  /** Null for a folder without the shop's tables. */
  show(snapshot) {
    setHidden(byId("shop-none"), snapshot !== null);
    setHidden(byId("shop-figures"), snapshot === null);
    if (snapshot === null) return;
    const why = (part) => reason(snapshot, part);
    lights(snapshot.lights ?? []);
    this.#tiles(snapshot.tiles, why);
    this.#charts.show(snapshot, why);
    totals(snapshot.warehouse, why);
    sessions(snapshot.sessions, why);
    details(snapshot, why);
  }

  rebuild() {
    this.#charts.rebuild();
  }

  #tiles(tiles, why) {
    message(byId("tiles-nothing"), tiles ? null : why("redis"));
    setHidden(byId("tiles-window"), !tiles);
    if (tiles) {
      const [start, end] = [instant(tiles.window_start), instant(tiles.window_end)];
      setText(byId("tiles-time"), t("tiles.window", { start: clock(start), end: clock(end) }));
      setText(byId("tiles-state"), t(tiles.final ? "tiles.final" : "tiles.open"));
      setAttribute(byId("tiles-state"), "data-final", String(Boolean(tiles.final)));
    }
    for (const [name, format] of TILES) tile(byId(`tile-${name}`), tiles?.[name] ?? null, format, tiles?.final);
    if (tiles?.final) this.#speak(tiles);
  }

  #speak(tiles) {
    const now = Date.now();
    if (this.#spoken.window === tiles.window_start || now - this.#spoken.at < SPEAK_MS) return;
    this.#spoken = { window: tiles.window_start, at: now };
    setText(
      byId("spoken"),
      t("tiles.spoken", {
        start: clock(instant(tiles.window_start)),
        revenue: money(tiles.revenue?.value),
        transactions: count(tiles.transactions?.value),
        customers: count(tiles.customers?.value),
      }),
    );
  }
}

/** Why figures of a part are not there: what its light says. */
function reason({ lights: all }, part) {
  const light = (all ?? []).find((candidate) => candidate.part === part);
  if (light?.state === "down") return t("missing.down", { part: word("part", part) });
  if (light?.state === "starting") return t("missing.starting", { part: word("part", part) });
  return t("missing.waiting");
}

function lights(all) {
  keyed(
    byId("lights"),
    all,
    (light) => light.part,
    () =>
      make(
        "li",
        { class: "light" },
        make("span", { class: "symbol", "aria-hidden": "true" }),
        make("span", { class: "part" }),
        " ",
        make("span", { class: "state" }),
        // The server's own words are English.
        make("span", { class: "detail", lang: "en" }),
      ),
    (item, { part, state, detail }) => {
      const [symbol, name, said, more] = item.children;
      setAttribute(item, "data-part", part);
      setAttribute(item, "data-state", state);
      setText(symbol, SYMBOLS[state] ?? "?");
      setText(name, word("part", part));
      setText(said, word("state", state));
      setText(more, detail ?? "");
      setAttribute(more, "title", detail || null);
    },
  );
}

function tile(article, figure, format, final) {
  const value = article.querySelector(".value");
  const shown = figure ? format(figure.value) : NONE;
  setText(value, shown);
  value.style.setProperty("--letters", shown.length);
  setAttribute(value, "data-none", !figure);
  const delta = article.querySelector(".change");
  const known = typeof figure?.change === "number";
  const way = !known ? "none" : Math.abs(figure.change) < 0.0005 ? "same" : figure.change > 0 ? "more" : "less";
  setAttribute(delta, "data-way", way);
  // A window that still counts is no verdict yet.
  setAttribute(delta, "data-open", final === false);
  const [arrow, amount, text] = delta.children;
  setText(arrow, { more: "▲", less: "▼", same: "=", none: "" }[way]);
  setText(amount, known ? change(figure.change) : "");
  setText(
    text,
    !figure ? "" : !known ? t("tiles.nothing") : t(final || way === "more" ? `tiles.${way}` : "tiles.sofar"),
  );
  const before = article.querySelector(".before");
  setText(before, typeof figure?.previous === "number" ? t("tiles.before", { value: format(figure.previous) }) : "");
}

function totals(figures, why) {
  message(byId("warehouse-nothing"), figures ? null : why("warehouse"));
  setHidden(byId("warehouse"), !figures);
  if (figures)
    terms(
      byId("warehouse"),
      TOTALS.map(([name, format]) => [t(`warehouse.${name}`), format(figures[name]), name]),
    );
}

function sessions(figures, why) {
  const sum = figures ? OUTCOMES.reduce((all, outcome) => all + (figures[outcome] ?? 0), 0) : 0;
  message(byId("sessions-nothing"), !figures ? why("warehouse") : sum === 0 ? t("sessions.none") : null);
  setHidden(byId("sessions"), sum === 0);
  if (sum === 0) return;
  keyed(
    byId("sessions").tBodies[0],
    OUTCOMES,
    (outcome) => outcome,
    (outcome) =>
      make(
        "tr",
        { "data-outcome": outcome },
        make("th", { scope: "row" }),
        make("td", { class: "track", "aria-hidden": "true" }, make("span", { class: "bar" })),
        make("td", { class: "number" }),
        make("td", { class: "number share" }),
      ),
    (row, outcome) => {
      const part = (figures[outcome] ?? 0) / sum;
      setText(row.cells[0], word("outcome", outcome));
      row.cells[1].firstElementChild.style.width = `${100 * part}%`;
      setText(row.cells[2], count(figures[outcome] ?? 0));
      setText(row.cells[3], share(part));
    },
  );
}

function details({ transactions, behavior, products }, why) {
  message(byId("details-transactions-nothing"), transactions ? null : why("redis"));
  setHidden(byId("details-transactions"), !transactions);
  if (transactions) {
    terms(
      byId("details-transactions"),
      TRANSACTIONS.map(([text, name, format]) => [t(text), format(transactions[name]), name]),
    );
  }
  table(
    "behavior",
    kinds(behavior ?? []),
    (entry) => entry.event_type,
    why,
    (entry) => [word("kind", entry.event_type), clock(instant(entry.timestamp)), count(entry.event_count)],
  );
  table(
    "products",
    categories(products ?? []),
    (entry) => entry.category,
    why,
    (entry) => [
      entry.category,
      clock(instant(entry.timestamp)),
      ...CATEGORY.map(([name, format]) => format(entry[name])),
    ],
  );
}

/** Rows of an earlier window are said to be such: they are the newest of their kind, and not of now. */
function table(name, entries, key, why, cells) {
  const element = byId(`details-${name}`);
  message(byId(`details-${name}-nothing`), entries.length > 0 ? null : why("redis"));
  setHidden(element.parentElement, entries.length === 0);
  const { holds } = newest(entries);
  keyed(
    element.tBodies[0],
    entries,
    key,
    (entry) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }),
        ...cells(entry)
          .slice(1)
          .map(() => make("td", { class: "number" })),
      ),
    (row, entry) => {
      cells(entry).forEach((text, place) => setText(row.cells[place], text));
      setAttribute(row, "data-earlier", !holds(entry));
      setAttribute(row.cells[1], "title", holds(entry) ? null : t("details.earlier"));
    },
  );
}
