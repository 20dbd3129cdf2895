// A judgment in words and figures. One that failed has a reason and no figure.

import { facts, h, percent, table } from "./dom.js";

const FAILURES = {
  unparsed: "What the judge wrote holds no verdict that can be read.",
  truncated: "The judge was cut off before its verdict.",
  refused: "The judge declined to judge.",
  prompt_too_long: "The prompt leaves the judge no room to answer.",
  timed_out: "Time ran out before there was a verdict.",
  failed: "The judge broke down.",
};
const FAILURE_WORDS = {
  unparsed: "unreadable",
  truncated: "cut off",
  refused: "refused",
  prompt_too_long: "prompt too long",
  timed_out: "out of time",
  failed: "failed",
};
const SHOWN = { first_second: "A, then B", second_first: "B, then A" };

/** The letter an answer is shown under, by its place in the request. */
export const letter = (index) => String.fromCharCode(65 + index);
const sideLetter = (choice) => (choice === "first" ? "A" : "B");

function headline(kind, title, outcome, detail) {
  return h(
    "div",
    { class: `headline ${kind}` },
    h("p", { class: "verdict" }, title),
    h("p", { class: "tag" }, outcome),
    detail ? h("p", { class: "detail as-is" }, detail) : null,
  );
}

function headlineOf(judgment, title) {
  const failure = FAILURES[judgment.outcome];
  if (failure === undefined) {
    const kind = judgment.outcome === "tie" ? "even" : "good";
    return headline(kind, title, judgment.outcome, judgment.detail);
  }
  const why = judgment.detail ? `${failure} ${judgment.detail}` : failure;
  return headline("bad", "No verdict", FAILURE_WORDS[judgment.outcome], why);
}

function probabilityBar(first) {
  const a = h("span", { class: "share a" });
  // Through the object model: a style attribute would be against the page's own policy.
  a.style.setProperty("--share", String(first));
  return h(
    "figure",
    { class: "probability" },
    h(
      "figcaption",
      {},
      h("span", {}, "A is better: ", h("strong", {}, percent(first))),
      h("span", {}, "B is better: ", h("strong", {}, percent(1 - first))),
    ),
    h("div", { class: "track", "aria-hidden": "true" }, a),
  );
}

function votesText(votes) {
  const parts = [`A ${votes.first}`, `B ${votes.second}`];
  if (votes.tie) parts.push(`tie ${votes.tie}`);
  if (votes.failed) parts.push(`no verdict ${votes.failed}`);
  return parts.join(" · ");
}

function readingText(reading) {
  if (reading.outcome === "choice") return `${sideLetter(reading.choice)} is better`;
  if (reading.outcome === "tie") return "a tie";
  return `no verdict (${FAILURE_WORDS[reading.outcome] ?? reading.outcome})`;
}

function readingsTable(orders) {
  const columns = [
    { head: "Read as" },
    { head: "Verdict" },
    { head: "P(A better)", number: true },
    { head: "Votes", number: true },
  ];
  const rows = orders.map((reading) => [
    SHOWN[reading.shown],
    readingText(reading),
    reading.outcome === "choice" && reading.probability_first !== null
      ? percent(reading.probability_first)
      : "none",
    votesText(reading.votes),
  ]);
  return table("Readings by order", columns, rows);
}

function consistency(judgment) {
  if (judgment.consistent === true) return "Both orders name the same answer";
  if (judgment.consistent === false) return "The orders disagree";
  return judgment.orders.length === 1 ? "Only one order was read" : "Not known: an order made no choice";
}

function rationales(judgment) {
  const draws = judgment.orders.flatMap((reading) =>
    reading.rationales.map((text, i) => [`${SHOWN[reading.shown]}, draw ${i + 1}`, text]),
  );
  const parts = [];
  if (judgment.rationale) {
    const text = h("blockquote", { class: "as-is" }, judgment.rationale);
    parts.push(h("div", {}, h("h3", {}, "Rationale"), text));
  }
  if (draws.length > 1 || (draws.length === 1 && !judgment.rationale)) {
    parts.push(
      h(
        "details",
        {},
        h("summary", {}, `All rationales (${draws.length})`),
        draws.map(([title, text]) => [h("h4", {}, title), h("blockquote", { class: "as-is" }, text)]),
      ),
    );
  }
  return parts;
}

function provenance(judgment) {
  const { judge, usage } = judgment;
  return [
    ["Judge", `version ${judge.version} · ${judge.model} · iteration ${judge.iteration}`],
    ["Fingerprint", h("code", {}, judge.fingerprint)],
    ["Rubric", h("code", {}, judgment.rubric)],
    ["Tokens", `${usage.prompt_tokens} read · ${usage.completion_tokens} written`],
    ["Id", h("code", {}, judgment.id)],
  ];
}

/** {title, elements} of a PairwiseJudgment. */
export function pairwiseResult(judgment) {
  const made = judgment.outcome === "choice";
  const title = made ? `Answer ${sideLetter(judgment.choice)} is better` : "A tie";
  const elements = [headlineOf(judgment, title)];
  if (made && judgment.probability_first !== null) {
    elements.push(probabilityBar(judgment.probability_first));
  }
  if (judgment.orders.length) elements.push(readingsTable(judgment.orders));
  elements.push(...rationales(judgment));
  const probability =
    made && judgment.probability_first === null ? [["Probability", "The engine gives none"]] : [];
  elements.push(
    facts([
      ["Consistency", consistency(judgment)],
      ["Votes", votesText(judgment.votes)],
      ...probability,
      ...provenance(judgment),
    ]),
  );
  return { title: elements[0].firstChild.textContent, elements };
}

function standingsTable(standings) {
  const columns = [
    { head: "Answer" },
    ...["Points", "Wins", "Ties", "Losses", "No verdict"].map((head) => ({ head, number: true })),
  ];
  const rows = standings.map((s) => [
    letter(s.index),
    s.points === null ? "none" : String(Number(s.points.toFixed(3))),
    String(s.wins),
    String(s.ties),
    String(s.losses),
    String(s.failed),
  ]);
  return table("Standings", columns, rows);
}

function pairText({ first, second, judgment }) {
  if (judgment.outcome === "choice") {
    return `${letter(judgment.choice === "first" ? first : second)} is better`;
  }
  return readingText(judgment);
}

/** Every comparison of a tournament, and what the judge wrote on it. */
function comparisons(pairs) {
  const columns = [
    { head: "Compared" },
    { head: "Verdict" },
    { head: "P(first better)", number: true },
    { head: "Orders" },
  ];
  const orders = { true: "agree", false: "disagree", null: "not known" };
  const name = ({ first, second }) => `${letter(first)} and ${letter(second)}`;
  const rows = pairs.map((pair) => [
    name(pair),
    pairText(pair),
    pair.judgment.probability_first === null ? "none" : percent(pair.judgment.probability_first),
    orders[pair.judgment.consistent],
  ]);
  return [table("Comparisons", columns, rows), told(pairs.map((pair) => [name(pair), pair.judgment.rationale]))];
}

function scores(judgments) {
  return told(judgments.map((judgment, i) => [letter(i), judgment.rationale]));
}

/** Rationales under a name each; null where there are none. */
function told(named) {
  const parts = named.filter(([, rationale]) => rationale);
  if (!parts.length) return null;
  return h(
    "details",
    {},
    h("summary", {}, `Rationales (${parts.length})`),
    parts.map(([title, text]) => [h("h4", {}, title), h("blockquote", { class: "as-is" }, text)]),
  );
}

/** {title, elements} of a RankJudgment. */
export function rankResult(judgment) {
  const order = judgment.ranking.map((group) => group.map(letter).join(" = ")).join(" > ");
  const made = judgment.outcome === "ranking";
  const title = made ? order : "A tie: all answers are equal";
  const elements = [headlineOf(judgment, title)];
  if (judgment.standings.length) elements.push(standingsTable(judgment.standings));
  const parts = judgment.comparisons.length ? comparisons(judgment.comparisons) : [scores(judgment.scores)];
  elements.push(...parts.filter((part) => part !== null));
  const share = judgment.consistent_share;
  elements.push(
    facts([
      ["Comparisons", String(judgment.num_comparisons)],
      ["Consistency", share === null ? "Not known" : `Both orders agree in ${percent(share)}`],
      ...provenance(judgment),
    ]),
  );
  return { title: made ? `Best first: ${order}` : elements[0].firstChild.textContent, elements };
}
