// Building elements. Text only ever becomes text: there is no way from a string to markup here.

const SVG = "http://www.w3.org/2000/svg";

/** The element of the page with this id; its absence is a bug of ours. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Make an element. `attributes`: null and false leave one out, true makes it empty; children are nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An icon of the sprite. It is decoration: whoever uses it gives the words. */
export function icon(name, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A user's face: one letter on the colour of their name. */
export function face(user, { small = false, here = false } = {}) {
  return make(
    "span",
    { class: small ? "face face-small" : "face", "data-tone": tone(user), "data-here": here, "aria-hidden": "true" },
    initials(user),
  );
}

function initials(user) {
  const words = user.split(/[-_.:]+/).filter(Boolean);
  if (words.length > 1) return words[0][0] + words[1][0];
  return (words[0] ?? user).slice(0, 2);
}

function tone(user) {
  let hash = 2166136261;
  for (const letter of user) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619);
  return ((hash >>> 0) % 7) + 1;
}

/** Show the element or not. */
export function show(element, shown) {
  element.hidden = !shown;
}

/** Set text only where it differs, so that a live region does not repeat itself. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
