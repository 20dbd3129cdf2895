// How long something was looked at: time in which the page is hidden does not count.

export function startStopwatch() {
  let seen = 0;
  let since = document.hidden ? null : performance.now();
  const change = () => {
    if (document.hidden && since !== null) {
      seen += performance.now() - since;
      since = null;
    } else if (!document.hidden && since === null) {
      since = performance.now();
    }
  };
  document.addEventListener("visibilitychange", change);
  return {
    seconds: () => (seen + (since === null ? 0 : performance.now() - since)) / 1000,
    stop: () => document.removeEventListener("visibilitychange", change),
  };
}
