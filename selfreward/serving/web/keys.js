// What a key means in the review queue.

/** Where typed letters are text. */
export function isTyping(element) {
  return element.matches("textarea, select, input:not([type=radio], [type=checkbox])");
}

/** Where Enter already has a meaning of its own. */
export function takesEnter(element) {
  return element.matches("a, button, summary, textarea, select");
}

/**
 * The action a key stands for, as [name, label?], or null. `labels` are the letters of the task's
 * answers, `flagging` says that the next letter is to be flagged. In a ranking its letters come
 * before C and H, which is why "/" and "!" do the same everywhere.
 */
export function actionOf(key, { kind, labels, flagging }) {
  const upper = key.length === 1 ? key.toUpperCase() : key;
  const isLabel = labels.includes(upper);
  if (flagging) return isLabel ? ["flag", upper] : ["stop-flagging"];
  if (kind === "pair") {
    if (isLabel) return ["pick", upper];
    if (key === "1" || key === "2") return ["pick", labels[Number(key) - 1]];
    if (upper === "T" || key === "0") return ["pick", "tie"];
  } else {
    if (isLabel) return ["place", upper];
    if (key === "=") return ["join"];
    if (key === "Backspace") return ["take-back"];
  }
  if (upper === "H" || key === "!") return ["start-flagging"];
  if (upper === "C" || key === "/") return ["comment"];
  if (key === "Enter") return ["submit"];
  return key === "?" ? ["keys"] : null;
}
