// What went wrong with a request, and what can be done about it.

import { h } from "./dom.js";

const TITLES = {
  0: "No answer",
  401: "An API key is needed",
  403: "Not allowed",
  404: "Not found",
  429: "Too many requests",
  503: "The service is busy",
};

function wait(error) {
  if (error.retryAfter === null) return null;
  const unit = error.retryAfter === 1 ? "second" : "seconds";
  return h("p", {}, `The service asks to wait ${error.retryAfter} ${unit} before the next try.`);
}

/** Shows an error; `actions` are [label, function] pairs that become buttons. */
export function showError(place, error, actions = []) {
  const buttons = actions.map(([label, act]) => {
    const button = h("button", { type: "button", class: "quiet" }, label);
    button.addEventListener("click", act);
    return button;
  });
  place.replaceChildren(
    h(
      "div",
      { class: "notice bad", role: "alert" },
      h("p", { class: "notice-title" }, TITLES[error.status] ?? "This did not work"),
      h("p", { class: "as-is" }, error.message),
      wait(error),
      error.status === 401 ? h("p", {}, "Enter a key at the top of the page.") : null,
      buttons.length ? h("div", { class: "row" }, buttons) : null,
    ),
  );
}

export function clearNotice(place) {
  place.replaceChildren();
}
