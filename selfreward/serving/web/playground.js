// The playground: a prompt and answers in, one judgment out.

import { request } from "./api.js";
import { announce, byId, h } from "./dom.js";
import { letter, pairwiseResult, rankResult } from "./judgment.js";
import { clearNotice, showError } from "./notices.js";

const MIN_ANSWERS = 2;
const MAX_ANSWERS = 8;

const answerFields = () => [...byId("answers").children];

/** Letters follow the places, so that removing one renames those after it. */
function renumber() {
  const fields = answerFields();
  fields.forEach((field, i) => {
    const area = field.querySelector("textarea");
    const problem = field.querySelector(".problem");
    const name = `Answer ${letter(i)}`;
    area.id = `answer-${i}`;
    problem.id = `answer-${i}-problem`;
    area.setAttribute("aria-describedby", problem.id);
    const label = field.querySelector("label");
    label.htmlFor = area.id;
    label.textContent = name;
    const remove = field.querySelector("button");
    remove.hidden = fields.length <= MIN_ANSWERS;
    remove.setAttribute("aria-label", `Remove ${name}`);
  });
  byId("add-answer").hidden = fields.length >= MAX_ANSWERS;
}

function addAnswer() {
  const field = byId("answer-field").content.firstElementChild.cloneNode(true);
  field.querySelector("button").addEventListener("click", () => {
    const at = answerFields().indexOf(field);
    field.remove();
    renumber();
    answerFields()[Math.min(at, answerFields().length - 1)].querySelector("textarea").focus();
    announce(`Answer ${letter(at)} is removed.`);
  });
  byId("answers").append(field);
  renumber();
  return field.querySelector("textarea");
}

/** Marks a field as wrong, or as right with an empty `message`. */
function mark(input, problem, message) {
  problem.textContent = message;
  problem.hidden = message === "";
  if (message) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

/** Whether the form can be sent; the first field that is wrong gets the focus. */
function check() {
  const rules = [
    [byId("prompt"), byId("prompt-problem"), "The judge needs a prompt."],
    ...answerFields().map((field, i) => [
      field.querySelector("textarea"),
      field.querySelector(".problem"),
      `Answer ${letter(i)} is empty.`,
    ]),
  ];
  const wrong = [];
  for (const [input, problem, message] of rules) {
    const bad = input.value.trim() === "";
    mark(input, problem, bad ? message : "");
    if (bad) wrong.push(input);
  }
  const votes = byId("votes");
  const badVotes = !/^[1-9]\d*$/.test(votes.value.trim());
  mark(votes, byId("votes-problem"), badVotes ? "A whole number from 1 on." : "");
  if (badVotes) wrong.push(votes);
  wrong[0]?.focus();
  return wrong.length === 0;
}

/** [path, body] of what the form asks for. */
function question() {
  const answers = answerFields().map((field) => field.querySelector("textarea").value);
  const options = {
    prompt: byId("prompt").value,
    votes: Number(byId("votes").value),
    both_orders: byId("both-orders").checked,
    rationale: byId("rationale").checked,
  };
  const rubric = byId("rubric").value.trim();
  if (rubric) options.rubric = rubric;
  return answers.length === 2
    ? ["v1/judge/pairwise", { ...options, first: answers[0], second: answers[1] }]
    : ["v1/judge/rank", { ...options, responses: answers }];
}

export function createPlayground() {
  let running = null;
  let wantsKey = false;

  function setRunning(controller) {
    running = controller;
    byId("judge").setAttribute("aria-disabled", String(controller !== null));
    byId("judge").textContent = controller ? "Judging…" : "Judge";
    byId("cancel-judge").hidden = controller === null;
  }

  function show(path, judgment) {
    const { title, elements } = path.endsWith("pairwise") ? pairwiseResult(judgment) : rankResult(judgment);
    byId("result").replaceChildren(...elements);
    byId("result-title").scrollIntoView({ block: "nearest" });
    announce(`${title}.`);
  }

  async function judge() {
    if (running !== null || !check()) return;
    const controller = new AbortController();
    setRunning(controller);
    wantsKey = false;
    clearNotice(byId("playground-notice"));
    byId("result").replaceChildren(h("p", { class: "empty" }, "The judge is reading…"));
    announce("The judge is reading.");
    const [path, body] = question();
    try {
      show(path, await request(path, { body, signal: controller.signal }));
    } catch (error) {
      byId("result").replaceChildren(h("p", { class: "empty" }, "There is no verdict."));
      if (error.name === "AbortError") {
        announce("Cancelled.");
      } else {
        wantsKey = error.status === 401;
        showError(byId("playground-notice"), error, wantsKey ? [] : [["Try again", judge]]);
      }
    } finally {
      setRunning(null);
    }
  }

  byId("judge-form").addEventListener("submit", (event) => {
    event.preventDefault();
    judge();
  });
  byId("judge-form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      judge();
    }
  });
  byId("add-answer").addEventListener("click", () => addAnswer().focus());
  byId("cancel-judge").addEventListener("click", () => {
    running?.abort();
    byId("judge").focus();
  });
  for (let i = 0; i < MIN_ANSWERS; i += 1) addAnswer();

  return {
    enter() {},
    accessChanged() {
      if (wantsKey) judge();
    },
  };
}
