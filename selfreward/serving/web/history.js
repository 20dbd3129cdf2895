// The judges that were promoted, newest first.

import { request } from "./api.js";
import { announce, byId, facts, h, percent, table } from "./dom.js";
import { clearNotice, showError } from "./notices.js";

const BY = {
  start: "served from the start",
  run: "promoted by the run",
  promote: "promoted by hand",
  rollback: "rolled back to by hand",
};
// Figures of the bias card whose names need more words than they have. The rest reads as it is.
const FIGURES = {
  n: "Pairs measured",
  swap_flip_rate: "Choices that change with the order",
  first_position_rate: "Choices of the first position",
  longer_chosen_rate: "Choices of the longer answer",
  share_chosen_longer: "Better answers that are the longer",
};

function figureName(name) {
  const words = name.replaceAll("_", " ");
  return FIGURES[name] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

function figureValue({ name, value }) {
  if (value === null) return "not measured";
  if (/(^share_|_rate$|_share$|accuracy)/.test(name)) return percent(value);
  return Number.isInteger(value) ? String(value) : value.toFixed(3);
}

function time(text) {
  const when = new Date(text);
  const shown = Number.isNaN(when.getTime())
    ? text
    : when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return h("time", { datetime: text, title: text }, shown);
}

function card(entry, isNewest) {
  const { judge } = entry;
  const biases = entry.bias_card.map((figure) => [figureName(figure.name), figureValue(figure)]);
  return h(
    "article",
    { class: "card judge" },
    h(
      "header",
      { class: "title-row" },
      h("h2", {}, `Version ${judge.version}`),
      isNewest ? h("p", { class: "tag" }, "newest") : null,
    ),
    h("p", { class: "hint" }, time(entry.since), ` · ${BY[entry.by] ?? entry.by}`),
    entry.reason === null ? null : h("p", { class: "as-is" }, entry.reason),
    h(
      "div",
      { class: "halves" },
      facts([
        ["Accuracy", entry.accuracy === null ? "not measured" : percent(entry.accuracy)],
        ["Iteration", String(judge.iteration)],
        ["Model", h("code", {}, judge.model)],
        ["Fingerprint", h("code", {}, judge.fingerprint)],
      ]),
      biases.length
        ? table("Bias card", [{ head: "Figure" }, { head: "Value", number: true }], biases)
        : h("p", { class: "hint" }, "It has no bias card."),
    ),
  );
}

export function createHistory() {
  async function load() {
    const notice = byId("history-notice");
    clearNotice(notice);
    byId("history-body").setAttribute("aria-busy", "true");
    try {
      const { judges } = await request("v1/review/history");
      const cards = judges.map((entry, i) => card(entry, i === 0));
      const nothing = h("p", { class: "empty" }, "No judge was promoted yet.");
      byId("history-body").replaceChildren(...(cards.length ? cards : [nothing]));
      announce(cards.length === 1 ? "One judge." : `${cards.length} judges.`);
    } catch (error) {
      byId("history-body").replaceChildren();
      showError(notice, error, error.status === 401 ? [] : [["Try again", load]]);
    } finally {
      byId("history-body").removeAttribute("aria-busy");
    }
  }

  byId("refresh-history").addEventListener("click", load);
  return { enter: load, accessChanged: load };
}
