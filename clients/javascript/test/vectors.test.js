import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { closing } from "../src/index.js";
import { World, record, settle } from "./world/world.js";

// The protocol's own examples. The package may be checked out without them.
const FOLDER = new URL("../../../tests/vectors/", import.meta.url);
const options = { skip: !existsSync(FOLDER) && "the protocol's vectors are not in this checkout" };

function vectors(name) {
  return JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8")).vectors;
}

test("the table of close codes agrees with the protocol's", options, () => {
  for (const { code, name, action, reconnects } of vectors("close")) {
    const verdict = closing(code);
    assert.equal(verdict.reconnect, reconnects, `${code}`);
    if (name !== null) {
      assert.equal(verdict.name, name);
    }
    if (code === 4005) {
      assert.equal(verdict.longer, action === "resume later");
    }
  }
});

test("every frame of the gateway is understood", options, async () => {
  for (const { name, frame } of vectors("server")) {
    const world = new World();
    const client = world.connect();
    const errors = [];
    client.on("error", (error) => errors.push(error));
    const id = frame.session ?? "01920000-0000-7000-8000-00000000000a";
    world.gateway.session(id).messages = Array.from({ length: 57 }, (_, index) => ({ seq: index + 1 }));
    const session = client.attach(id);
    const seen = record(session);
    await settle();
    const before = Object.values(seen).flat().length;
    world.socket.deliver(frame);
    await settle();
    const told = Object.values(seen).flat().length - before;
    const isOwnEvent = ["message", "live", "attached", "session"].includes(frame.type) || (frame.event ?? (frame.user && frame.session));
    assert.equal(told > 0, Boolean(isOwnEvent) || (frame.type === "signal" && "sender" in frame), name);
    assert.equal(errors.length > 0, frame.type === "error", name);
    assert.notEqual(client.state.name, "closed", name);
    client.close();
  }
});
