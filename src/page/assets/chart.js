// One chart over uPlot: bars and lines on one or two axes, in the page's colours and the person's language.

import { make, setAttribute } from "./dom.js";
import { t } from "./language.js";

/** A canvas wants plain colours: what a colour of the style sheet comes to, here and now. */
const probe = make("span", { hidden: true });
document.body.append(probe);
function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}
const rem = (value) => value * parseFloat(getComputedStyle(document.documentElement).fontSize);

const COUNTS = [1, 2, 5]
  .flatMap((digit) => Array.from({ length: 13 }, (_, power) => digit * 10 ** power))
  .sort((a, b) => a - b);
/** Bars that hold names are at most so wide, in rem. */
const WIDEST = 3;
/** Letters of a name below an axis; the table and the tip have all of it. */
const LETTERS = 14;

/**
 * `shape` has `series`: {text, draw: "bar" or "line", colour, axis: "left" or "right", short, long}, where `text` is a key
 * of the texts and `short` and `long` write a value at an axis and in full. Below the chart are either names (`names`) or
 * times: `step` seconds apart, with ticks every one of `incrs` seconds that `label` writes; `full` writes a time in full.
 */
export class Chart {
  #holder;
  #shape;
  #plot = null;
  #data = null;
  #names = [];
  #tip = null;
  #tops = {};
  #built = "";

  constructor(holder, shape) {
    this.#holder = holder;
    this.#shape = shape;
    new ResizeObserver(() => this.#fit()).observe(holder);
  }

  /** Columns: x (names, or times in seconds) and one for each series. `epoch` changes where an axis may shrink again. */
  show([x, ...columns], epoch) {
    this.#names = x;
    this.#data = [this.#shape.names ? x.map((_, index) => index) : x, ...columns];
    this.#grow(columns, epoch);
    // Names and their number shape the axis; the rest is only new data.
    const built = this.#shape.names ? x.join("\n") : "";
    if (this.#plot && built === this.#built) {
      this.#plot.setData(this.#data);
      this.#point(this.#plot);
    } else {
      this.#built = built;
      this.rebuild();
    }
  }

  clear() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#data = null;
  }

  /** After a change of language, colours or font size. */
  rebuild() {
    if (!this.#data) return;
    const data = this.#data;
    this.#plot?.destroy();
    this.#plot = new uPlot(this.#options(), data, this.#holder);
  }

  /** An axis keeps the height of the epoch before, so that bars rise through a window and the axis does not shiver. */
  #grow(columns, epoch) {
    for (const axis of ["left", "right"]) {
      const values = columns.filter((_, index) => this.#shape.series[index].axis === axis).flat();
      const top = values.reduce((most, value) => Math.max(most, value ?? 0), 0);
      const kept = this.#tops[axis];
      if (!kept || epoch === undefined) this.#tops[axis] = { epoch, before: 0, top };
      else if (kept.epoch === epoch) kept.top = Math.max(kept.top, top);
      else this.#tops[axis] = { epoch, before: kept.top, top };
    }
  }

  #size() {
    return { width: Math.max(120, this.#holder.clientWidth), height: Math.max(120, this.#holder.clientHeight) };
  }

  #fit() {
    if (!this.#plot) return;
    const { width, height } = this.#size();
    if (width !== this.#plot.width || height !== this.#plot.height) this.#plot.setSize({ width, height });
  }

  #options() {
    const { names, step, series } = this.#shape;
    const bars = series.filter((one) => one.draw === "bar").length;
    const right = series.some((one) => one.axis === "right");
    let bar = 0;
    return {
      ...this.#size(),
      padding: [rem(0.5), right ? 0 : rem(0.75), 0, 0],
      legend: { show: false },
      cursor: {
        drag: { x: false, y: false, setScale: false },
        y: false,
        points: { size: rem(0.5) },
      },
      scales: {
        x: {
          time: !names,
          range: (_, low, high) => (names ? [-0.5, high + 0.5] : [low - step / 2, high + step / 2]),
        },
        left: { range: () => this.#range("left") },
        right: { range: () => this.#range("right") },
      },
      axes: [this.#across(), this.#upright("left"), ...(right ? [this.#upright("right")] : [])],
      series: [{}, ...series.map((one) => this.#series(one, bars, one.draw === "bar" ? bar++ : 0))],
      hooks: {
        init: [(plot) => this.#addTip(plot)],
        setCursor: [(plot) => this.#point(plot)],
      },
    };
  }

  #range(axis) {
    const { before = 0, top = 0 } = this.#tops[axis] ?? {};
    const most = Math.max(before, top);
    return [0, most > 0 ? most * 1.08 : 1];
  }

  #series({ draw, colour: name, axis }, bars, index) {
    const stroke = colour(name);
    if (draw === "line") {
      return { scale: axis, stroke, width: 2, points: { show: true, size: rem(0.35), fill: stroke, stroke } };
    }
    const align = bars === 1 ? 0 : index === 0 ? -1 : 1;
    const size = [bars === 1 ? 0.66 : 0.36, rem(WIDEST)];
    return {
      scale: axis,
      fill: stroke,
      width: 0,
      points: { show: false },
      paths: uPlot.paths.bars({ size, align, radius: 0.12 }),
    };
  }

  #axis(more) {
    return {
      stroke: colour("--muted"),
      font: `${rem(0.75)}px ${getComputedStyle(document.body).fontFamily}`,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      gap: rem(0.35),
      ...more,
    };
  }

  #upright(side) {
    const one = this.#shape.series.find((candidate) => candidate.axis === side);
    return this.#axis({
      scale: side,
      side: side === "left" ? 3 : 1,
      grid: { show: side === "left", stroke: colour("--line"), width: 1 },
      incrs: COUNTS,
      space: rem(2.4),
      values: (_, splits) => splits.map((value) => one.short(value)),
      size: (plot, values, at, cycle) => {
        const axis = plot.axes[at];
        if (cycle > 1) return axis._size;
        return Math.ceil(axis.gap + widest(plot, axis, values) + rem(0.25));
      },
    });
  }

  #across() {
    const grid = { show: false };
    if (!this.#shape.names) {
      const { label, incrs } = this.#shape;
      return this.#axis({
        grid,
        incrs,
        space: (plot) => widest(plot, plot.axes[0], [label(this.#data[0][0] ?? 0)]) + rem(1),
        size: rem(1.6),
        values: (_, splits) => splits.map((value) => label(value)),
      });
    }
    const short = () => this.#names.map((name) => (name.length > LETTERS ? `${name.slice(0, LETTERS - 1)}…` : name));
    const tilted = (plot) => {
      const room = (plot.width - rem(7)) / Math.max(1, this.#names.length);
      return widest(plot, plot.axes[0], short()) > room - rem(0.4);
    };
    return this.#axis({
      grid,
      splits: () => this.#names.map((_, index) => index),
      values: short,
      rotate: (plot) => (tilted(plot) ? 38 : 0),
      size: (plot, _, at, cycle) => {
        if (cycle > 1) return plot.axes[at]._size;
        return tilted(plot) ? Math.ceil(widest(plot, plot.axes[0], short()) * 0.62 + rem(1.2)) : rem(1.6);
      },
    });
  }

  #addTip(plot) {
    this.#tip = make("div", { class: "tip", "aria-hidden": "true" });
    this.#tip.hidden = true;
    plot.over.append(this.#tip);
    plot.over.addEventListener("mouseleave", () => {
      this.#tip.hidden = true;
    });
  }

  /** What is below the pointer, beside it. */
  #point(plot) {
    const { idx, left } = plot.cursor;
    const tip = this.#tip;
    if (idx === null || idx === undefined || left < 0 || !this.#data) {
      tip.hidden = true;
      return;
    }
    const head = this.#shape.names ? this.#names[idx] : this.#shape.full(this.#data[0][idx]);
    tip.replaceChildren(
      make("strong", {}, head ?? ""),
      ...this.#shape.series.map((one, index) =>
        make(
          "span",
          { class: `swatch ${one.draw} ${one.colour.slice(2)}` },
          `${t(one.text)}: ${one.long(this.#data[index + 1][idx])}`,
        ),
      ),
    );
    tip.hidden = false;
    const room = plot.over.clientWidth;
    const beside = left + tip.offsetWidth + rem(1) > room ? left - tip.offsetWidth - rem(0.75) : left + rem(0.75);
    tip.style.left = `${Math.max(0, Math.min(beside, room - tip.offsetWidth))}px`;
  }
}

function widest(plot, axis, values) {
  plot.ctx.font = axis.font[0];
  const most = (values ?? []).reduce((width, value) => Math.max(width, plot.ctx.measureText(value).width), 0);
  return most / devicePixelRatio;
}

/** The names of the series with their swatches and axes, above a chart. */
export function legend(list, series) {
  const axes = new Set(series.map((one) => one.axis)).size;
  list.replaceChildren(
    ...series.map((one) =>
      make(
        "li",
        { class: `swatch ${one.draw} ${one.colour.slice(2)}` },
        axes > 1 ? `${t(one.text)} (${t(`charts.${one.axis}`)})` : t(one.text),
      ),
    ),
  );
}

/** A chart for those who do not see it. */
export function describe(holder, title) {
  setAttribute(holder, "role", "img");
  setAttribute(holder, "aria-label", t("charts.spoken", { title }));
}
