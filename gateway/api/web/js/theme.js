// Dark, light, or as the system: set before the first paint, which is why this is a plain script in the head.
(() => {
  "use strict";
  const KEY = "sessions.theme";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const listeners = new Set();

  const stored = () => {
    try {
      const value = localStorage.getItem(KEY);
      return value === "light" || value === "dark" ? value : "system";
    } catch {
      return "system";
    }
  };

  let choice = stored();

  const theme = {
    get choice() { return choice; },
    get isDark() { return choice === "system" ? system.matches : choice === "dark"; },
    set(value) {
      choice = value;
      try {
        if (value === "system") localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, value);
      } catch { /* Without storage the choice lasts as long as the page. */ }
      show();
    },
    onChange(listener) { listeners.add(listener); },
  };

  const show = () => {
    if (choice === "system") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", choice);
    for (const listener of listeners) listener();
  };

  system.addEventListener("change", show);
  // Another window of the same person changed it.
  window.addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    choice = stored();
    show();
  });
  show();
  window.sessionsTheme = theme;
})();
