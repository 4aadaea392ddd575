// Compiled, never run: what a page may write, and (@ts-expect-error) what it may not.

import { connect, closing, GatewayError, VERSION } from "session-gateway-client";
import type { Ack, Client, ClientState, HistoryPage, Message, Outgoing, Sending, Session } from "session-gateway-client";

const client: Client = connect("/ws", {
  getToken: async () => "token",
  storage: sessionStorage,
  WebSocket,
  outbox: { window: 4 },
  surroundings: { document, window, random: () => 0.5 },
});

client
  .on("state", (state: ClientState) => {
    switch (state.name) {
      case "reconnecting":
        return void `${state.attempt} ${state.retryAt ?? "now"} ${state.why}`;
      case "closed":
        return void `${state.code} ${state.reason} ${state.why}`;
      case "connecting":
      case "online":
      case "offline":
        return;
      default: {
        const nothing: never = state;
        return nothing;
      }
    }
  })
  .once("welcome", ({ user, resumed }) => void [user.length, resumed === true])
  .on("message", (message: Message, session: Session) => void [message.clientId, session.id])
  .on("signal", (signal, session) => void [signal.name, session?.id])
  .on("error", (error: GatewayError) => void error.retryAfterMs);

// @ts-expect-error: no such event
client.on("mesage", () => {});
// @ts-expect-error: made by connect()
new (client.constructor as typeof Client)();
// @ts-expect-error: read only
client.state = { name: "online" };

async function talk(): Promise<void> {
  await client.ready();
  const session = await client.open({ title: "Talk", ttl: 60, context: { page: 7, deep: [1, null] } });
  const other: Session = client.attach("0192", { since: 0 });
  await other.ready;
  const sending: Sending = session.send("hello", { role: "user", metadata: { lang: "en" } });
  const entry: Outgoing = sending.entry;
  const ack: Ack = await sending;
  void [entry.state === "sent", ack.duplicate, session.pending.length, session.ended?.code];
  for await (const message of session.messages()) {
    void message.seq.toFixed();
  }
  const page: HistoryPage = await session.history({ before: 42, limit: 50 });
  session.read(page.head);
  const isSent: boolean = session.signal("typing", { on: true });
  const present: number | undefined = (await session.presence())[0]?.connections;
  const { version } = await session.update({ title: "New", status: "archived" });
  void [isSent, present, version];
  await session.detach();
  await session.close();
  // @ts-expect-error: content is text
  session.send(42);
  // @ts-expect-error: not a role
  session.send("x", { role: "robot" });
  client.reconnect();
  client.close();
}

const error = new GatewayError("unavailable", "later", true, 1000);
void [talk, error.code, closing(4005).longer, VERSION.length];
