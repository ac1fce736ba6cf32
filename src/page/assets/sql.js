// SQL in light colours: words, strings, numbers, comments and variables. Everything is set as text.

import { make } from "./dom.js";

const KEYWORDS = new Set(
  `
  all and as asc between bigint boolean by case cast count create cross date decimal desc distinct double else end except
  exists extract false filter float first following from full generated always group having hop in inner insert int
  integer interval into is join last left like limit metadata not null nulls on or order outer over partition preceding
  primary key real right row rows select session set smallint struct sum avg min max table text then timestamp true tumble
  union unnest values varchar view watermark for when where window with within
`
    .trim()
    .split(/\s+/),
);

const TOKEN =
  /(--[^\n]*|\/\*[^]*?(?:\*\/|$))|('(?:[^']|'')*'?)|("(?:[^"]|"")*"?)|(\b\d+(?:\.\d+)?\b)|([A-Za-z_][A-Za-z0-9_]*)|(\s+|[^])/g;
const VARIABLE = /\$\{[^}]*\}/g;

/**
 * Fills `code` with a statement, a line an element, numbered from `first`; lines from..to (counted like that) are marked.
 */
export function showSql(code, text, first, marked = null) {
  const lines = [[]];
  for (const [token, comment, string, , number, word] of text.matchAll(TOKEN)) {
    const kind = comment
      ? "comment"
      : string
        ? "string"
        : number
          ? "number"
          : word && KEYWORDS.has(word.toLowerCase())
            ? "keyword"
            : null;
    token.split("\n").forEach((part, index) => {
      if (index > 0) lines.push([]);
      if (part !== "") lines.at(-1).push(...pieces(part, kind));
    });
  }
  code.replaceChildren(
    ...lines.map((parts, index) => {
      const number = first + index;
      const inside = marked && number >= marked.from && number <= marked.to;
      return make("span", { class: inside ? "numbered marked" : "numbered", "data-line": number }, ...parts, "\n");
    }),
  );
}

function pieces(text, kind) {
  if (kind === null) return [text];
  if (kind !== "string") return [make("span", { class: kind }, text)];
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(VARIABLE)) {
    if (match.index > at) parts.push(make("span", { class: kind }, text.slice(at, match.index)));
    parts.push(make("span", { class: "variable" }, match[0]));
    at = match.index + match[0].length;
  }
  if (at < text.length) parts.push(make("span", { class: kind }, text.slice(at)));
  return parts;
}
