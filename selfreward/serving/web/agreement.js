// How far people agree with each other and with the judges.

import { request } from "./api.js";
import { announce, byId, facts, h, percent, table } from "./dom.js";
import { clearNotice, showError } from "./notices.js";

const NOT_DEFINED = "not defined";
const share = (value) => (value === null ? NOT_DEFINED : percent(value));
const coefficient = (value) => (value === null ? NOT_DEFINED : value.toFixed(3));
const COLUMNS = [
  { head: "In common", number: true },
  { head: "Agreement", number: true },
  { head: "Cohen's κ", number: true },
];
const figures = (line) => [String(line.num_common), share(line.agreement), coefficient(line.cohen_kappa)];

function card(title, note, content) {
  return h("section", { class: "card" }, h("h2", {}, title), h("p", { class: "hint" }, note), content);
}

function overview(report) {
  return card(
    "All answers",
    "Krippendorff's α tells how far any number of reviewers agree on first, second or tie: 1 is full"
      + " agreement, 0 is what chance would give, below 0 is less than that.",
    facts([
      ["Answers", String(report.num_answers)],
      ["Comparisons", String(report.num_comparisons)],
      ["Reviewers", report.reviewers.length ? report.reviewers.join(", ") : "nobody yet"],
      ["Krippendorff's α", coefficient(report.krippendorff_alpha)],
    ]),
  );
}

function judges(report) {
  const rows = report.with_judges.map((line) => [line.judge, ...figures(line)]);
  const content = rows.length
    ? table("People with each judge", [{ head: "Judge" }, ...COLUMNS], rows)
    : h("p", { class: "empty" }, "No comparison was made by both people and a judge yet.");
  return card(
    "People with the judges",
    "Agreement is the share of common comparisons with the same verdict. κ takes away what chance"
      + " alone would give: 1 is full agreement, 0 is chance. With few in common, neither says much.",
    content,
  );
}

function pairs(report) {
  const rows = report.between_reviewers.map((line) => [line.one, line.other, ...figures(line)]);
  const content = rows.length
    ? table("Reviewers with each other", [{ head: "Reviewer" }, { head: "Other" }, ...COLUMNS], rows)
    : h("p", { class: "empty" }, "No two reviewers have answered yet.");
  return card(
    "People with each other",
    "κ is not defined without common comparisons, or where both always say the same one thing.",
    content,
  );
}

export function createAgreement() {
  async function load() {
    const notice = byId("agreement-notice");
    clearNotice(notice);
    byId("agreement-body").setAttribute("aria-busy", "true");
    try {
      const report = await request("v1/review/agreement");
      byId("agreement-body").replaceChildren(overview(report), judges(report), pairs(report));
      announce("Agreement is loaded.");
    } catch (error) {
      byId("agreement-body").replaceChildren();
      showError(notice, error, error.status === 401 ? [] : [["Try again", load]]);
    } finally {
      byId("agreement-body").removeAttribute("aria-busy");
    }
  }

  byId("refresh-agreement").addEventListener("click", load);
  return { enter: load, accessChanged: load };
}
