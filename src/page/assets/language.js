// Which language the page speaks, and its texts in the document: elements with data-text, data-label and data-title.

import { read, write } from "./settings.js";
import { setAttribute, setText } from "./dom.js";
import { TEXTS } from "./texts.js";

const spoken = () => (navigator.languages?.length ? navigator.languages : [navigator.language ?? "en"]);
const base = (tag) => tag.toLowerCase().split("-")[0];

let language = read("language");
if (!(language in TEXTS))
  language =
    spoken()
      .map(base)
      .find((tag) => tag in TEXTS) ?? "en";

export const current = () => language;

/** For Intl: the person's own region if the language is theirs (es-CO writes numbers unlike es-ES). */
export const locale = () => spoken().find((tag) => base(tag) === language) ?? language;

export function choose(tag) {
  language = tag;
  write("language", tag);
}

/** A text with its values put in: `{name}`. A key that is not there is null. */
export function find(key, values = {}) {
  const text = TEXTS[language][key];
  return text === undefined ? null : text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function t(key, values) {
  return find(key, values) ?? key;
}

/** A word of the data, such as an event type: in the language if it is known, else as it stands. */
export function word(family, value) {
  return find(`${family}.${value}`) ?? String(value).replaceAll("_", " ");
}

export function translate(root = document) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-text]")) setText(element, t(element.dataset.text));
  for (const element of root.querySelectorAll("[data-label]"))
    setAttribute(element, "aria-label", t(element.dataset.label));
  for (const element of root.querySelectorAll("[data-title]")) setAttribute(element, "title", t(element.dataset.title));
}
