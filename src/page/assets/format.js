// Figures and times as a person of the chosen language writes them. Times of the data are UTC, shown in the viewer's zone.

import { locale } from "./language.js";

/** The catalogue's currency (product.currency); events carry amounts without one. */
const currency = "EUR";

const made = new Map();
function formatter(kind, options) {
  const key = `${locale()} ${JSON.stringify(options)} ${kind.name}`;
  if (!made.has(key)) made.set(key, new kind(locale(), options));
  return made.get(key);
}
const number = (value, options) => formatter(Intl.NumberFormat, options).format(value);
const time = (date, options) => formatter(Intl.DateTimeFormat, options).format(date);

const known = (value) => typeof value === "number" && Number.isFinite(value);
export const NONE = "–";

const orNone = (format) => (value) => (known(value) ? format(value) : NONE);

export const count = orNone((value) => number(value, { maximumFractionDigits: 0 }));
export const money = orNone((value) => number(value, { style: "currency", currency, currencyDisplay: "narrowSymbol" }));
/** For axes: short, whatever the size. */
export const shortMoney = orNone((value) =>
  number(value, {
    style: "currency",
    currency,
    currencyDisplay: "narrowSymbol",
    notation: "compact",
    maximumFractionDigits: 1,
    minimumFractionDigits: 0,
  }),
);
export const shortCount = orNone((value) => number(value, { notation: "compact", maximumFractionDigits: 1 }));
export const share = orNone((value) => number(value, { style: "percent", maximumFractionDigits: 1 }));
export const change = orNone((value) =>
  number(value, { style: "percent", signDisplay: "exceptZero", maximumFractionDigits: Math.abs(value) < 10 ? 1 : 0 }),
);
export const rate = orNone((value) => `${number(value, { maximumFractionDigits: value < 100 ? 1 : 0 })}/s`);

const unit = (value, name, digits = 0) =>
  number(value, { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: digits });

export const bytes = orNone((value) => {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let step = 0;
  while (Math.abs(value) >= 1000 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return unit(value, units[step], step === 0 || value >= 100 ? 0 : 1);
});

/** A length of time in its two largest units. */
export const duration = orNone((seconds) => {
  if (seconds < 10) return unit(Math.max(0, seconds), "second", 1);
  if (seconds < 60) return unit(seconds, "second");
  const parts = [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
  ];
  let left = Math.floor(seconds);
  const said = [];
  for (const [name, size] of parts) {
    const amount = Math.floor(left / size);
    left -= amount * size;
    if (amount > 0 && said.length < 2) said.push(unit(amount, name));
    else if (said.length > 0) break;
  }
  return said.join(" ");
});

/** A time of the data; without a zone it is UTC. Null if it is none. */
export function instant(text) {
  if (typeof text !== "string" || text === "") return null;
  const zoned = /(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text.replace(" ", "T")}Z`;
  const date = new Date(zoned);
  return Number.isNaN(date.getTime()) ? null : date;
}

const ofDate = (options) => (date) => (date ? time(date, options) : NONE);
export const clock = ofDate({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const minute = ofDate({ hour: "2-digit", minute: "2-digit" });
export const dateTime = ofDate({ dateStyle: "medium", timeStyle: "medium" });
