import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as api from "../src/index.js";
import { World } from "./world/world.js";

const declarations = readFileSync(new URL("../index.d.ts", import.meta.url), "utf8");
const description = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));

/** The names declared in the body of an interface or class. */
function declared(kind, name) {
  const [, body] = declarations.match(new RegExp(`export ${kind} ${name}[^{]*{\\n([\\s\\S]*?)\\n}`));
  return new Set([...body.matchAll(/^ {2}(?:readonly )?(\w+)[?]?[(<:]/gm)].map(([, member]) => member));
}

test("every export is declared", () => {
  for (const name of Object.keys(api)) {
    assert.match(declarations, new RegExp(`export (class|function|const) ${name}\\b`));
  }
});

test("the classes have what is declared, and nothing else", async () => {
  const world = new World();
  const { client, session } = await world.online();
  for (const object of [client, session]) {
    const members = declared("class", object.constructor.name);
    for (const member of members) {
      assert.ok(member in object, `${object.constructor.name}.${member} is declared and missing`);
    }
    for (const member of Object.getOwnPropertyNames(Object.getPrototypeOf(object))) {
      assert.ok(member === "constructor" || members.has(member), `${object.constructor.name}.${member} is not declared`);
    }
  }
});

test("a message has the declared fields", async () => {
  const world = new World();
  const { seen, session } = await world.online();
  const { entry } = session.send("x");
  await entry;
  await world.clock.advance(0);
  assert.deepEqual(new Set(Object.keys(seen.message[0])), declared("interface", "Message"));
  assert.deepEqual(new Set(Object.keys(entry)), declared("interface", "Outgoing"));
});

test("the package and the hello tell the same version", () => {
  assert.equal(api.VERSION, description.version);
});
