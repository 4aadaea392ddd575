// The sheet with a session's details: its title, its people, and what can be done with it.

import { fully } from "./dates.js";
import { byId, face, icon, make, say, show } from "./dom.js";
import { askSure, openDialog } from "./dialogs.js";
import { toast } from "./toasts.js";
import { isName, sentence } from "./words.js";

const ROLES = { owner: "owner", writer: "may write", reader: "may read" };

export class Details {
  #conversations;
  #conversation = null;
  #stops = [];
  #dialog = byId("details-dialog");
  #onLeft;

  constructor(conversations, { onLeft }) {
    this.#conversations = conversations;
    this.#onLeft = onLeft;
    this.#dialog.addEventListener("close", () => this.#stop());
    byId("rename-form").addEventListener("submit", (event) => void this.#rename(event));
    byId("invite-form").addEventListener("submit", (event) => void this.#invite(event));
    byId("details-link").addEventListener("click", () => void this.#link());
    byId("details-archive").addEventListener("click", () => void this.#archive());
    byId("details-leave").addEventListener("click", () => void this.#leave());
    byId("details-close").addEventListener("click", () => void this.#end());
  }

  /** Open the sheet; `at` is the field to begin with. */
  open(conversation, at = "rename") {
    this.#stop();
    this.#conversation = conversation;
    this.#stops = ["about", "people"].map((event) => conversation.on(event, () => this.#render()));
    this.#stops.push(conversation.on("ended", () => this.#dialog.close()));
    for (const id of ["rename-error", "invite-error"]) say(byId(id), "");
    byId("rename").value = conversation.title;
    byId("invite-form").reset();
    this.#render();
    void this.#conversations.readMembers(conversation);
    const field = byId(at);
    openDialog(this.#dialog, field.disabled || field.closest("[hidden]") ? null : field);
  }

  #stop() {
    for (const stop of this.#stops) stop();
    this.#stops = [];
  }

  #render() {
    const conversation = this.#conversation;
    const isOwner = conversation.role === "owner";
    const mayChange = conversation.mayWrite;
    byId("rename").disabled = !mayChange;
    show(byId("rename-save"), mayChange);
    show(byId("invite-form"), isOwner && !conversation.ended);
    show(byId("details-archive"), isOwner && !conversation.ended);
    show(byId("details-close"), isOwner && !conversation.ended);
    show(byId("details-leave"), conversation.role !== null && !isOwner && !conversation.ended);
    say(byId("details-archive-words"), conversation.isArchived ? "Bring back from the archive" : "Archive");
    say(byId("details-facts"), facts(conversation));
    this.#renderPeople();
  }

  #renderPeople() {
    const conversation = this.#conversation;
    const focused = document.activeElement?.dataset?.user;
    byId("people").replaceChildren(...conversation.members.map((member) => this.#person(member)));
    if (focused) byId("people").querySelector(`[data-user="${CSS.escape(focused)}"]`)?.focus();
  }

  #person({ user, role }) {
    const conversation = this.#conversation;
    const isHere = conversation.here.has(user);
    const isMe = user === conversation.me;
    const words = [ROLES[role] ?? role, isHere ? "here now" : "away"].join(" · ");
    const item = make("li", { class: "person" },
      face(user, { here: isHere }),
      make("div", { class: "person-words" },
        make("div", { class: "person-name" }, isMe ? `${user} (you)` : user),
        make("div", { class: "person-what" }, words)));
    if (conversation.role === "owner" && !isMe && !conversation.ended) {
      const remove = make("button", {
        class: "button button-icon", type: "button", "data-user": user, "aria-label": `Remove ${user}`, title: `Remove ${user}`,
      }, icon("cross"));
      remove.addEventListener("click", () => void this.#remove(user));
      item.append(remove);
    }
    return item;
  }

  async #rename(event) {
    event.preventDefault();
    const title = byId("rename").value.trim();
    if (title === this.#conversation.title) {
      this.#dialog.close();
      return;
    }
    await this.#attempt("rename-error", async () => {
      await this.#conversation.session.update({ title });
      this.#conversation.title = title;
      this.#conversation.emit("about");
      this.#dialog.close();
      toast("The title is changed.");
    });
  }

  async #invite(event) {
    event.preventDefault();
    const input = byId("invite-name");
    const user = input.value.trim();
    const known = this.#conversation.members.some((member) => member.user === user);
    if (!isName(user)) say(byId("invite-error"), "A name is made of letters, digits and _ . : - only.");
    else if (known) say(byId("invite-error"), `${user} is here already.`);
    else {
      await this.#attempt("invite-error", async () => {
        await this.#conversations.invite(this.#conversation, user, byId("invite-reader").checked ? "reader" : "writer");
        byId("invite-form").reset();
        say(byId("invite-error"), "");
      });
    }
    input.focus();
  }

  async #remove(user) {
    const sure = await askSure({
      title: `Remove ${user}?`,
      text: `${user} will no longer see this session. You can invite them again.`,
      yes: "Remove",
    });
    if (sure) await this.#attempt("invite-error", () => this.#conversations.remove(this.#conversation, user));
  }

  async #link() {
    this.#dialog.close();
    await copyLink(this.#conversation);
  }

  async #archive() {
    const conversation = this.#conversation;
    const status = conversation.isArchived ? "active" : "archived";
    await this.#attempt("rename-error", async () => {
      await conversation.session.update({ status });
      conversation.status = status;
      conversation.emit("about");
      this.#dialog.close();
      const undo = { words: "Undo", run: () => void conversation.session?.update({ status: "active" }) };
      if (status === "archived") toast("Archived. You find it at the end of the list.", { action: undo });
      else toast("Back from the archive.");
    });
  }

  async #leave() {
    const conversation = this.#conversation;
    const sure = await askSure({
      title: "Leave this session?",
      text: `You will no longer see “${conversation.name}”. Its owner can invite you again.`,
      yes: "Leave",
    });
    if (!sure) return;
    await this.#attempt("rename-error", async () => {
      await this.#conversations.leave(conversation);
      this.#dialog.close();
      this.#onLeft(conversation, `You left “${conversation.name}”.`);
    });
  }

  async #end() {
    const conversation = this.#conversation;
    const sure = await askSure({
      title: "End this session for everybody?",
      text: `Nobody will be able to write in “${conversation.name}” any more, and it leaves everybody’s list. This cannot be undone.`,
      yes: "End session",
    });
    if (sure) await this.#attempt("rename-error", () => conversation.session.close());
  }

  async #attempt(where, run) {
    try {
      await run();
    } catch (error) {
      say(byId(where), sentence(error));
    }
  }
}

/** Put a link that opens the session on the clipboard. */
export async function copyLink(conversation) {
  const link = `${location.origin}/#${conversation.id}`;
  try {
    await navigator.clipboard.writeText(link);
    toast("Link copied. It opens for everybody who is invited.");
  } catch {
    // No permission, or no secure page: then the reader copies it.
    toast(`Copy this link: ${link}`);
  }
}

function facts(conversation) {
  const kind = conversation.isPersistent ? "Kept until it is ended." : "Temporary: ends an hour after everybody has left.";
  return `${kind} Last active ${fully(conversation.lastAt)}.`;
}
