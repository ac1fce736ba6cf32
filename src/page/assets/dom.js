// The document: finding, making and changing its elements. Values come from outside and are only ever set as text.

export const byId = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; strings become text. An attribute that is null or false is left out. */
export function make(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** The same for a part of a drawing. */
export function draw(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Touches the document only when something changes: no flicker, no needless work for screen readers. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

const keys = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order: `create` makes a missing one, `update` brings it up
 * to date. Elements are known by their key and stay, so focus and selection stay too.
 */
export function keyed(parent, items, key, create, update) {
  const wanted = new Set(items.map((item) => String(key(item))));
  const present = new Map();
  for (const child of [...parent.children]) {
    const name = keys.get(child);
    if (wanted.has(name)) present.set(name, child);
    else child.remove();
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = present.get(name);
    if (!child) {
      child = create(item);
      keys.set(child, name);
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

/** A place that says why there is nothing to show; null when there is something. */
export function message(paragraph, text) {
  setText(paragraph, text ?? "");
  setHidden(paragraph, text === null);
}

/** A list of named figures: [what it is called, its value, its name in the document]. */
export function terms(list, figures) {
  keyed(
    list,
    figures,
    ([, , name]) => name,
    () => make("div", {}, make("dt"), make("dd")),
    (pair, [text, value, name]) => {
      setText(pair.children[0], text);
      setText(pair.children[1], value);
      setAttribute(pair, "data-name", name);
    },
  );
}
