// Start: who is it, may they come in, then the app. Nothing else lives here.

import { App } from "./app.js";
import { remembered } from "./credentials.js";
import { prepareDialogs } from "./dialogs.js";
import { comeIn, doorTrouble } from "./door.js";
import { byId, show } from "./dom.js";
import { open } from "./rest.js";
import { sentence } from "./words.js";

const RETRY_MS = 2_000;

async function start() {
  prepareDialogs();
  const { demo } = await config();
  const credentials = remembered(demo) ?? await comeIn(demo);
  credentials.remember();
  show(byId("door"), false);
  await new App(credentials, credentials.name).start();
}

// A page that was loaded a moment before the gateway stopped waits for it.
async function config() {
  for (;;) {
    try {
      const found = await open.config();
      doorTrouble("");
      show(byId("door"), false);
      return found;
    } catch (error) {
      doorTrouble(sentence(error));
      await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
    }
  }
}

void start();
