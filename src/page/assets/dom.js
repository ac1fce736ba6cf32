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
  const present = new Map();
  for (const child of parent.children) present.set(keys.get(child), child);
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = present.get(name);
    if (child) {
      present.delete(name);
    } else {
      child = create(item);
      keys.set(child, name);
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
  for (const child of present.values()) child.remove();
}
