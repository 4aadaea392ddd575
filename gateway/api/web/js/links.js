// Text as nodes, with what is surely a link made one. The text itself never becomes markup.

import { make } from "./dom.js";

// http and https only: nothing that runs, mails or dials. No spaces, quotes or angle brackets.
const LINK = /\bhttps?:\/\/[^\s<>"'`]+/giu;
const TRAILING = /[.,;:!?…»”’*_~]+$/u;
const PAIRS = { ")": "(", "]": "[", "}": "{" };

/** Nodes that show `text`. */
export function linked(text) {
  const nodes = [];
  let done = 0;
  for (const match of text.matchAll(LINK)) {
    const url = trimmed(match[0]);
    if (!isLink(url)) continue;
    nodes.push(text.slice(done, match.index), anchor(url));
    done = match.index + url.length;
  }
  nodes.push(text.slice(done));
  return nodes.filter((node) => node !== "");
}

function anchor(url) {
  return make("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, url);
}

// A sentence's full stop, and a bracket that was opened before the link, belong to the text around it.
function trimmed(url) {
  for (;;) {
    const shorter = url.replace(TRAILING, "");
    const last = shorter.at(-1);
    const opening = PAIRS[last];
    const closesMore = opening && count(shorter, last) > count(shorter, opening);
    const next = closesMore ? shorter.slice(0, -1) : shorter;
    if (next === url) return url;
    url = next;
  }
}

function count(text, letter) {
  return text.split(letter).length - 1;
}

function isLink(text) {
  try {
    const url = new URL(text);
    return (url.protocol === "http:" || url.protocol === "https:") && url.hostname !== "" && url.username === "";
  } catch {
    return false;
  }
}
