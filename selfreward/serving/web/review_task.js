// A review task on the page: its prompt, its answers as cards, their places and flags.

import { byId, h } from "./dom.js";
import { missing, placeOf, placed } from "./ranking.js";

const ROLES = { system: "System", user: "User", assistant: "Assistant" };

function message({ role, content }) {
  return h(
    "div",
    { class: `message ${role}` },
    h("p", { class: "role" }, ROLES[role]),
    h("div", { class: "as-is" }, content),
  );
}

/** The control that names this answer: better than the other one, or next in the ranking. */
function control(kind, label, { pick, place }) {
  if (kind === "pair") {
    const input = h("input", { type: "radio", name: "choice", value: label });
    input.addEventListener("change", () => pick(label));
    return h("label", { class: "pick" }, input, h("span", {}, `${label} is better`), h("kbd", {}, label));
  }
  const button = h("button", { type: "button", class: "quiet", id: `place-${label}` });
  button.addEventListener("click", () => place(label));
  return button;
}

function card(kind, { label, text }, handlers) {
  const harmful = h("input", { type: "checkbox", id: `harmful-${label}` });
  harmful.addEventListener("change", () => handlers.flag(label));
  return h(
    "article",
    { class: "card response", id: `response-${label}`, "aria-label": `Answer ${label}` },
    h("h3", {}, h("span", { class: "letter", "aria-hidden": "true" }, label), ` Answer ${label}`),
    h("div", { class: "as-is text" }, text),
    h(
      "div",
      { class: "card-foot" },
      control(kind, label, handlers),
      h("label", { class: "check" }, harmful, " Harmful"),
    ),
  );
}

/** Puts a task on the page. `handlers` are pick, place and flag, each called with a letter. */
export function showTask(task, handlers) {
  const isPair = task.kind === "pair";
  const question = isPair
    ? "Which answer is better?"
    : `Rank the ${task.responses.length} answers, best first`;
  byId("task-title").textContent = question;
  byId("task-question").textContent = question;
  byId("task-prompt").replaceChildren(...task.prompt.map(message));
  byId("task-answers").replaceChildren(...task.responses.map((r) => card(task.kind, r, handlers)));
  byId("tie-pick").hidden = !isPair;
  byId("ranking").hidden = isPair;
}

/** Shows which answers are flagged as harmful. */
export function markFlag(label, on) {
  byId(`response-${label}`).classList.toggle("flagged", on);
}

function drawPlace(group, ranking) {
  const letters = group.flatMap((label, i) => [
    i ? " = " : null,
    h("span", { class: "letter" }, label),
  ]);
  return h("li", { value: String(placeOf(ranking, group[0])) }, letters);
}

/** Shows the ranking so far, in its list and on the cards. */
export function markPlaces(ranking, labels) {
  byId("ranking-places").replaceChildren(...ranking.groups.map((group) => drawPlace(group, ranking)));
  const left = missing(ranking, labels);
  byId("ranking-left").textContent = left.length ? `Left: ${left.join(", ")}` : "All are placed.";
  byId("join").setAttribute("aria-pressed", String(ranking.join));
  byId("join").disabled = !ranking.groups.length || !left.length;
  byId("take-back").disabled = !placed(ranking).length;
  for (const label of labels) {
    const place = placeOf(ranking, label);
    const button = byId(`place-${label}`);
    button.replaceChildren(
      ...(place === null ? [`Place ${label} next `, h("kbd", {}, label)] : [`${label} has place ${place}`]),
    );
    button.setAttribute("aria-disabled", String(place !== null));
  }
}
