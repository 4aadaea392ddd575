// Everything behind the door, put together: the client, the sessions, and what is seen of them.

import { connect } from "/static/client/index.js";
import { Account } from "./account.js";
import { ConnectionView } from "./connection_view.js";
import { ConversationView } from "./conversation_view.js";
import { Conversations } from "./conversations.js";
import { Details, copyLink } from "./details.js";
import { byId, show } from "./dom.js";
import { memory } from "./memory.js";
import { prepareNewSession } from "./new_session.js";
import { Rest } from "./rest.js";
import { SessionList } from "./session_list.js";
import { prepareShortcuts } from "./shortcuts.js";
import { toast } from "./toasts.js";
import { sentence } from "./words.js";

const SESSION_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const narrow = window.matchMedia("(max-width: 719.98px)");

export class App {
  #client;
  #conversations;
  #list;
  #view;
  #details;
  #create;
  #me;
  #opening = null;
  #lastOpened = null;

  constructor(credentials, me) {
    this.#me = me;
    this.#client = connect("/ws", {
      getToken: () => credentials.token(),
      client: { name: "page", version: "1.0" },
      storage: memory.storage ?? undefined,
      // Another person at this window does not send what the one before had left to send.
      storageKey: `sessions.outbox.${me}`,
    });
    this.#conversations = new Conversations(this.#client, new Rest(() => credentials.token()), me);
    this.#list = new SessionList(this.#conversations);
    this.#view = new ConversationView(this.#conversations, { mostBytes: () => this.#client.limits?.message_bytes });
    this.#details = new Details(this.#conversations, { onLeft: (conversation, words) => this.#onGone(conversation, words) });
    this.#create = prepareNewSession(this.#conversations, { onMade: (conversation) => this.#goTo(conversation.id) });
    this.#listen(credentials);
    this.#prepareButtons();
  }

  /** Show it, and whatever the address asks for. */
  async start() {
    show(byId("app"), true);
    this.#list.render();
    window.addEventListener("hashchange", () => void this.#route());
    await this.#conversations.reload();
    await this.#route();
  }

  #listen(credentials) {
    const client = this.#client;
    const connection = new ConnectionView(client, {
      onSignIn: () => this.#signOut(),
      onTried: () => this.#view.focusComposer(),
    });
    const account = new Account(this.#me, { onSignOut: () => this.#signOut() });
    account.showConnection(connection.briefly);
    client.on("state", (state) => {
      account.showConnection(connection.briefly);
      // A gateway that was set up anew has a new key: a new token by the same name is good again.
      if (state.name === "closed" && state.code === 4500 && credentials.discard()) client.reconnect();
    });
    client.on("error", (error) => toast(sentence(error), { tone: "trouble" }));
    this.#conversations.on("list", () => {
      this.#list.render();
      this.#showUnread();
    });
    this.#conversations.on("joined", (conversation) => this.#onJoined(conversation));
    this.#conversations.on("gone", (conversation, error) => this.#onEnded(conversation, error));
    this.#conversations.on("trouble", (error) => {
      // While the connection is away its own bar says so.
      if (error.code !== "network") toast(sentence(error), { tone: "trouble" });
    });
  }

  #prepareButtons() {
    const open = () => this.#view.conversation;
    const details = (at) => { if (open()) this.#details.open(open(), at); };
    byId("new-session").addEventListener("click", () => this.#create());
    byId("list-more").addEventListener("click", () => {
      this.#conversations.more().catch((error) => toast(sentence(error), { tone: "trouble" }));
    });
    byId("back").addEventListener("click", () => this.#goTo(null));
    byId("invite").addEventListener("click", () => details("invite-name"));
    byId("details").addEventListener("click", () => details("rename"));
    byId("copy-link").addEventListener("click", () => { if (open()) void copyLink(open()); });
    byId("skip").addEventListener("click", (event) => {
      // The address belongs to the sessions.
      event.preventDefault();
      if (open()) this.#view.focusComposer();
      else byId("nothing-action").focus();
    });
    const step = (by) => {
      const neighbour = this.#list.neighbour(by);
      if (neighbour) this.#goTo(neighbour.id);
    };
    prepareShortcuts({
      previous: () => step(-1),
      next: () => step(1),
      create: () => this.#create(),
      invite: () => details("invite-name"),
      details: () => details("rename"),
      write: () => this.#view.focusComposer(),
      list: () => this.#list.focusRow(this.#conversations.current?.id ?? this.#conversations.sorted[0]?.id),
      find: () => this.#list.focusFind(),
    });
  }

  // ---- where we are: the address says it

  #goTo(id) {
    if (id !== null && location.hash === `#${id}`) {
      void this.#route();
      return;
    }
    if (id === null) {
      history.pushState(null, "", location.pathname);
      void this.#route();
    } else {
      location.hash = id;
    }
  }

  async #route() {
    const wanted = location.hash.slice(1);
    if (!SESSION_ID.test(wanted)) {
      this.#opening = null;
      this.#show(null);
      return;
    }
    if (this.#view.conversation?.id === wanted) {
      this.#show(this.#view.conversation);
      return;
    }
    this.#opening = wanted;
    try {
      const conversation = await this.#conversations.open(wanted);
      // Meanwhile somebody may have gone elsewhere.
      if (this.#opening === wanted) this.#show(conversation);
    } catch (error) {
      if (this.#opening === wanted) this.#showMissing(error);
    }
  }

  #show(conversation) {
    const isNew = this.#view.conversation !== conversation || conversation === null;
    byId("app").dataset.view = conversation ? "conversation" : "list";
    this.#conversations.current = conversation;
    if (isNew) this.#view.open(conversation);
    this.#list.render();
    this.#showUnread();
    if (conversation) {
      this.#lastOpened = conversation.id;
      // A keyboard that jumps up over half of a phone was not asked for.
      if (narrow.matches) this.#view.focusTitle();
      else this.#view.focusComposer();
    } else if (narrow.matches && this.#lastOpened) {
      this.#list.focusRow(this.#lastOpened);
    }
  }

  #showMissing(error) {
    byId("app").dataset.view = "conversation";
    this.#conversations.current = null;
    const isMissing = error.code === "not_found" || error.code === "forbidden";
    this.#view.open(null, isMissing
      ? {
        title: "You are not in this session",
        text: `It does not exist, or nobody has invited you yet. Ask its owner to invite “${this.#me}”: it opens here by itself.`,
        action: { words: "Show my sessions", run: () => this.#goTo(null) },
      }
      : {
        title: "This session cannot be opened",
        text: sentence(error),
        action: { words: "Show my sessions", run: () => this.#goTo(null) },
      });
    this.#list.render();
    byId("nothing-action").focus();
  }

  // ---- what happens

  #onJoined(conversation) {
    if (location.hash === `#${conversation.id}`) {
      void this.#route();
      return;
    }
    toast(`You are in “${conversation.name}” now.`, { action: { words: "Open", run: () => this.#goTo(conversation.id) } });
  }

  #onEnded(conversation, error) {
    const isGone = error.code === "not_found" || error.code === "forbidden";
    const words = isGone ? `You are no longer in “${conversation.name}”.` : `“${conversation.name}” has ended.`;
    // What is on the screen stays readable; only writing is over.
    if (!isGone && this.#view.conversation === conversation) toast(words);
    else this.#onGone(conversation, words);
  }

  #onGone(conversation, words) {
    toast(words);
    if (this.#view.conversation === conversation) this.#goTo(null);
  }

  #showUnread() {
    const unread = this.#conversations.unread;
    const name = this.#conversations.current?.name;
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${name ? `${name} – ` : ""}Sessions`;
  }

  #signOut() {
    this.#client.close();
    memory.forget();
    location.replace(location.pathname);
  }
}
