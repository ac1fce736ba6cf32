// The shop's four charts and the tables behind them.

import { Chart, describe, legend } from "./chart.js";
import { byId, keyed, make, message, setAttribute, setHidden, setText } from "./dom.js";
import { clock, count, dateTime, instant, minute, money, shortCount, shortMoney } from "./format.js";
import { t, word } from "./language.js";

const seconds = (text) => instant(text).getTime() / 1000;
const atSecond = (value) => clock(new Date(value * 1000));
const atMinute = (value) => minute(new Date(value * 1000));
const atDate = (value) => dateTime(new Date(value * 1000));

const COUNT = { short: shortCount, long: count };
const MONEY = { short: shortMoney, long: money };

const KINDS = [
  "page_view",
  "product_view",
  "user_behavior",
  "search",
  "wishlist",
  "review",
  "cart_event",
  "cart_abandonment",
  "purchase",
];

/** Entries of the newest window that any of them has: those of earlier windows had nothing in it yet. */
export function newest(entries) {
  const start = entries.reduce((latest, entry) => Math.max(latest, instant(entry.timestamp)?.getTime() ?? 0), 0);
  return { start, holds: (entry) => (instant(entry.timestamp)?.getTime() ?? 0) === start };
}

/** In an order that does not depend on the figures, so that nothing jumps. */
export function kinds(behavior) {
  const place = ({ event_type: kind }) => (KINDS.includes(kind) ? KINDS.indexOf(kind) : KINDS.length);
  return behavior.toSorted((a, b) => place(a) - place(b) || a.event_type.localeCompare(b.event_type));
}

export function categories(products) {
  return products.toSorted((a, b) => a.category.localeCompare(b.category));
}

const RECENT = {
  id: "recent",
  part: "warehouse",
  step: 30,
  incrs: [60, 120, 300],
  label: atMinute,
  full: atSecond,
  head: "field.time",
  series: [
    { text: "field.revenue", draw: "bar", colour: "--a", axis: "left", ...MONEY },
    { text: "field.transactions", draw: "line", colour: "--b", axis: "right", ...COUNT },
  ],
  columns: ({ recent }) =>
    recent?.length > 0
      ? [
          recent.map((window) => seconds(window.window_start ?? window.timestamp)),
          recent.map((window) => window.revenue),
          recent.map((window) => window.transactions),
        ]
      : null,
};

const PRODUCTS = {
  id: "products",
  part: "redis",
  names: true,
  head: "field.category",
  series: [
    { text: "field.revenue", draw: "bar", colour: "--a", axis: "left", ...MONEY },
    { text: "field.sales", draw: "bar", colour: "--b", axis: "right", ...COUNT },
  ],
  columns: ({ products }) => {
    if (!products?.length) return null;
    const { holds } = newest(products);
    const sorted = categories(products);
    return [
      sorted.map((entry) => entry.category),
      sorted.map((entry) => (holds(entry) ? entry.category_revenue : 0)),
      sorted.map((entry) => (holds(entry) ? entry.product_sales : 0)),
    ];
  },
  epoch: ({ products }) => newest(products).start,
};

const ACTIVITY = {
  id: "activity",
  part: "warehouse",
  step: 3600,
  incrs: [3600, 7200, 10800, 14400, 21600, 43200],
  label: atMinute,
  full: atDate,
  head: "field.hour",
  series: [
    { text: "field.events", draw: "bar", colour: "--c", axis: "left", ...COUNT },
    { text: "field.transactions", draw: "line", colour: "--a", axis: "left", ...COUNT },
    { text: "field.behavior", draw: "line", colour: "--b", axis: "left", ...COUNT },
  ],
  columns: ({ activity }) =>
    activity?.length > 0
      ? [
          activity.map((hour) => seconds(hour.hour)),
          activity.map((hour) => hour.events),
          activity.map((hour) => hour.transactions),
          activity.map((hour) => hour.behavior),
        ]
      : null,
};

export class Charts {
  #drawn;
  #snapshot = null;

  constructor() {
    this.#drawn = [RECENT, PRODUCTS, ACTIVITY].map((shape) => {
      const figure = byId(`chart-${shape.id}`);
      const parts = {
        shape,
        figure,
        chart: new Chart(figure.querySelector(".plot"), shape),
        nothing: figure.querySelector(".nothing"),
        table: figure.querySelector("table"),
        details: figure.querySelector("details"),
      };
      parts.details.addEventListener("toggle", () => this.#fill(parts));
      return parts;
    });
  }

  /** `why(part)` says why there is nothing to show. */
  show(snapshot, why) {
    this.#snapshot = snapshot;
    for (const parts of this.#drawn) {
      const columns = parts.shape.columns(snapshot);
      message(parts.nothing, columns ? null : why(parts.shape.part));
      setHidden(parts.details, !columns);
      if (columns) parts.chart.show(columns, parts.shape.epoch?.(snapshot));
      else parts.chart.clear();
      this.#fill(parts);
    }
    const earliest = snapshot.products?.length ? newest(snapshot.products).start : 0;
    setText(byId("products-window"), earliest ? t("charts.window", { start: clock(new Date(earliest)) }) : "");
    this.#behavior(snapshot, why);
  }

  /** After a change of language or colours. */
  rebuild() {
    for (const { shape, figure, chart } of this.#drawn) {
      legend(figure.querySelector(".legend"), shape.series);
      describe(figure.querySelector(".plot"), t(`${shape.id}.title`));
      chart.rebuild();
    }
  }

  /** The table of a chart costs only while it is open. */
  #fill({ shape, table, details }) {
    if (!details.open || !this.#snapshot) return;
    const columns = shape.columns(this.#snapshot);
    if (!columns) return;
    const [x, ...values] = columns;
    const head = [t(shape.head), ...shape.series.map((one) => t(one.text))];
    keyed(
      table.tHead.rows[0],
      head.map((text, index) => ({ text, index })),
      (cell) => cell.index,
      () => make("th", { scope: "col" }),
      (cell, { text }) => setText(cell, text),
    );
    keyed(
      table.tBodies[0],
      x.map((at, index) => ({ at, index })),
      (row) => row.index,
      () => make("tr", {}, make("th", { scope: "row" }), ...values.map(() => make("td"))),
      (row, { at, index }) => {
        setText(row.cells[0], shape.names ? at : shape.full(at));
        values.forEach((column, place) => setText(row.cells[place + 1], shape.series[place].long(column[index])));
      },
    );
  }

  /** Bars that are a table at the same time. */
  #behavior({ behavior }, why) {
    const nothing = !behavior?.length;
    message(byId("behavior-nothing"), nothing ? why("redis") : null);
    const table = byId("behavior-bars");
    setHidden(table, nothing);
    const { start, holds } = newest(behavior ?? []);
    setText(byId("behavior-window"), nothing ? "" : t("charts.window", { start: clock(new Date(start)) }));
    if (nothing) return;
    const entries = kinds(behavior).map((entry) => ({
      kind: entry.event_type,
      events: holds(entry) ? entry.event_count : 0,
    }));
    const most = Math.max(1, ...entries.map((entry) => entry.events));
    keyed(
      table.tBodies[0],
      entries,
      (entry) => entry.kind,
      () =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }),
          make("td", { class: "track", "aria-hidden": "true" }, make("span", { class: "bar" })),
          make("td", { class: "number" }),
        ),
      (row, { kind, events }) => {
        setText(row.cells[0], word("kind", kind));
        row.cells[1].firstElementChild.style.width = `${(100 * events) / most}%`;
        setText(row.cells[2], count(events));
        setAttribute(row, "data-kind", kind);
      },
    );
  }
}
