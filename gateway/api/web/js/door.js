// Coming in: by name where the gateway runs on one's own machine, by token elsewhere.

import { DemoCredentials, GivenCredentials } from "./credentials.js";
import { byId, say, show } from "./dom.js";
import { isName, nearestName, sentence } from "./words.js";

/** Show the door and wait until somebody comes in; answers their credentials, proven good. */
export function comeIn(isDemo) {
  const form = byId(isDemo ? "name-form" : "token-form");
  const input = byId(isDemo ? "name" : "token");
  const error = byId(isDemo ? "name-error" : "token-error");
  show(form, true);
  show(byId("door"), true);
  input.focus();
  return new Promise((resolve) => {
    const button = form.querySelector("button");
    input.addEventListener("input", () => complain(input, error, ""));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const made = isDemo ? byName(input) : byToken(input);
      if (typeof made === "string") {
        complain(input, error, made);
        return;
      }
      button.disabled = true;
      try {
        await made.token();
      } catch (cause) {
        complain(input, error, sentence(cause));
        return;
      } finally {
        button.disabled = false;
      }
      show(byId("door"), false);
      resolve(made);
    });
  });
}

/** Say at the door what keeps everybody outside. */
export function doorTrouble(words) {
  show(byId("door"), true);
  show(byId("door-trouble"), words !== "");
  say(byId("door-trouble"), words);
}

function byName(input) {
  const wanted = input.value.trim();
  if (isName(wanted)) return new DemoCredentials(wanted);
  const nearest = nearestName(wanted);
  if (wanted === "" || nearest === "") return "Enter a name: letters, digits or any of _ . : -";
  // Offered, not taken: it is somebody's name.
  input.value = nearest;
  return `Names are made of letters, digits and _ . : - only. Would “${nearest}” do? Then come in.`;
}

function byToken(input) {
  const token = input.value.trim().replace(/^bearer\s+/i, "");
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return "This is not a token: it has three parts with dots between them.";
  return new GivenCredentials(token);
}

function complain(input, error, words) {
  say(error, words);
  if (words) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  } else {
    input.removeAttribute("aria-invalid");
  }
}
