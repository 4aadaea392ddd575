// The dialog that starts a session.

import { byId, say } from "./dom.js";
import { openDialog } from "./dialogs.js";
import { toast } from "./toasts.js";
import { enumerated, isName, sentence } from "./words.js";

/** Prepare the dialog; `onMade` gets the new conversation. Answers the function that opens it. */
export function prepareNewSession(conversations, { onMade }) {
  const dialog = byId("new-dialog");
  const form = byId("new-form");
  const title = byId("new-title");
  const invite = byId("new-invite");
  const error = byId("new-error");
  const submit = form.querySelector("[type=submit]");

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const invited = [...new Set(invite.value.split(/[,;\s]+/).filter(Boolean))].filter((user) => user !== conversations.me);
    const wrong = invited.filter((user) => !isName(user));
    if (wrong.length > 0) {
      say(error, `No name: ${wrong.join(", ")}. Names are letters, digits and _ . : - only.`);
      invite.focus();
      return;
    }
    submit.disabled = true;
    try {
      const made = await conversations.create({
        title: title.value.trim(),
        isTemporary: byId("new-temporary").checked,
        invited,
      });
      dialog.close();
      tellRefused(made.refused);
      onMade(made.conversation);
    } catch (cause) {
      say(error, sentence(cause));
    } finally {
      submit.disabled = false;
    }
  });

  return () => {
    form.reset();
    say(error, "");
    openDialog(dialog, title);
  };
}

function tellRefused(refused) {
  if (refused.length === 0) return;
  const names = enumerated(refused.map(({ user }) => user));
  toast(`${names} could not be invited. ${sentence(refused[0].error)}`, { tone: "trouble" });
}
