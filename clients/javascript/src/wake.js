// Tells when the page comes back to the front and when the network goes and returns.

/** Returns a function that stops listening. */
export function listenForWaking(surroundings, { visible, networkBack, networkGone }) {
  const { document, window } = surroundings;
  const looked = () => {
    if (document.visibilityState === "visible") {
      visible();
    }
  };
  const subscriptions = [
    [document, "visibilitychange", looked],
    // Chrome: a page that was frozen goes on.
    [document, "resume", looked],
    // The page comes out of the back/forward cache.
    [window, "pageshow", visible],
    [window, "online", networkBack],
    [window, "offline", networkGone],
  ].filter(([target]) => target);
  for (const [target, type, listener] of subscriptions) {
    target.addEventListener(type, listener);
  }
  return () => {
    for (const [target, type, listener] of subscriptions) {
      target.removeEventListener(type, listener);
    }
  };
}
