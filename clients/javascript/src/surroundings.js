// Clock, chance, page and network as the client sees them. Everything that makes a test unsteady comes from here.

function newId() {
  const bytes = new Uint8Array(16);
  if (globalThis.crypto?.getRandomValues) {
    globalThis.crypto.getRandomValues(bytes);
  } else {
    // Node 18 has no global crypto. The id must be unique among one sender's messages, it need not be secret.
    bytes.forEach((_, index) => {
      bytes[index] = Math.floor(Math.random() * 256);
    });
  }
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function surroundingsWith(given = {}) {
  return {
    now: () => Date.now(),
    setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    random: () => Math.random(),
    newId,
    document: globalThis.document ?? null,
    window: typeof globalThis.addEventListener === "function" ? globalThis : null,
    hasNetwork: () => globalThis.navigator?.onLine !== false,
    ...given,
  };
}

/** Resolve like the promise, or reject with whatever `late` makes after `ms`. */
export function within(surroundings, ms, promise, late) {
  return new Promise((resolve, reject) => {
    const timer = surroundings.setTimeout(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => surroundings.clearTimeout(timer));
  });
}

const encoder = new TextEncoder();

export function byteLength(text) {
  return encoder.encode(text).length;
}
