// The review queue: one blind task at a time, answered with the mouse or with single keys.

import { access, request } from "./api.js";
import { announce, byId, focusOn } from "./dom.js";
import { actionOf, isTyping, takesEnter } from "./keys.js";
import { clearNotice, showError } from "./notices.js";
import * as rankings from "./ranking.js";
import { markFlag, markPlaces, showTask } from "./review_task.js";
import { startStopwatch } from "./stopwatch.js";

const KEYS_ON = "selfreward.keys";

export function createReview() {
  let task = null;
  let labels = [];
  let ranking = rankings.EMPTY;
  let flagging = false;
  let busy = false;
  let watch = null;
  // Grows with every task that is asked for: what belongs to an earlier one comes too late.
  let turn = 0;

  const form = byId("review-form");
  const say = (text) => {
    byId("review-state").textContent = text;
  };
  const choice = () => new FormData(form).get("choice");
  const commentKey = () => (labels.includes("C") && task.kind === "rank" ? "/" : "C");

  function showProgress(done, left) {
    byId("progress").hidden = false;
    byId("progress-bar").max = Math.max(1, done + left);
    byId("progress-bar").value = done;
    byId("progress-text").textContent = `${done} done, ${left} left`;
  }

  function start(next) {
    task = next;
    labels = next.responses.map((response) => response.label);
    ranking = rankings.EMPTY;
    flagging = false;
    watch?.stop();
    watch = startStopwatch();
    form.reset();
    showTask(next, { pick, place, flag });
    byId("comment-key").textContent = commentKey();
    drawRanking();
    showProgress(next.num_done, next.num_left);
    say("");
    form.hidden = false;
    byId("review").scrollIntoView({ block: "start" });
    focusOn(byId("task-title"));
  }

  function stop() {
    turn += 1;
    busy = false;
    task = null;
    watch?.stop();
    form.hidden = true;
  }

  async function load() {
    stop();
    busy = true;
    const mine = turn;
    clearNotice(byId("review-notice"));
    byId("review-done").hidden = true;
    try {
      const next = await request("v1/review/next");
      if (mine !== turn) return;
      if (next === null) {
        byId("progress").hidden = true;
        byId("review-done").hidden = false;
        focusOn(byId("review-done"));
      } else {
        start(next);
      }
    } catch (error) {
      if (mine !== turn) return;
      byId("progress").hidden = true;
      showError(byId("review-notice"), error, error.status === 401 ? [] : [["Try again", load]]);
    } finally {
      if (mine === turn) busy = false;
    }
  }

  /** What is still missing from the answer, in words, or nothing. */
  function lacking() {
    if (task.kind === "pair") return choice() === null ? "Pick an answer or a tie first." : "";
    const left = rankings.missing(ranking, labels);
    return left.length ? `Still to be placed: ${left.join(", ")}.` : "";
  }

  function answer() {
    const body = {
      task_id: task.id,
      harmful: labels.filter((label) => byId(`harmful-${label}`).checked),
      comment: byId("comment").value.trim(),
      seconds: Math.round(10 * watch.seconds()) / 10,
    };
    if (task.kind === "pair") return { ...body, choice: choice() };
    return { ...body, ranking: ranking.groups };
  }

  async function submit() {
    if (busy || task === null) return;
    const problem = lacking();
    if (problem) {
      say(problem);
      return;
    }
    busy = true;
    const mine = turn;
    clearNotice(byId("review-notice"));
    say("Saving…");
    try {
      const receipt = await request("v1/review/answers", { body: answer() });
      if (mine !== turn) return;
      showProgress(receipt.num_done, receipt.num_left);
      announce("Saved.");
    } catch (error) {
      if (mine !== turn) return;
      say("Not saved.");
      const next = ["Leave it and load the next task", load];
      const actions = error.status === 401 ? [] : [["Try again", submit], next];
      showError(byId("review-notice"), error, actions);
      byId("review-notice").scrollIntoView({ block: "nearest" });
      return;
    } finally {
      if (mine === turn) busy = false;
    }
    await load();
  }

  function pick(value) {
    form.querySelector(`[name=choice][value="${value}"]`).checked = true;
    say(value === "tie" ? "A tie. Enter submits." : `${value} is better. Enter submits.`);
  }

  function drawRanking() {
    if (task.kind === "rank") markPlaces(ranking, labels);
  }

  function rank(next) {
    ranking = next;
    drawRanking();
    const order = ranking.groups.map((group) => group.join(" = ")).join(", ");
    const left = rankings.missing(ranking, labels);
    if (!order) say("Nothing is placed.");
    else if (ranking.join) say(`${order} = …`);
    else say(left.length ? order : `${order}. Enter submits.`);
  }

  function place(label) {
    if (rankings.placed(ranking).includes(label)) {
      say(`${label} has its place already. Take back with Backspace.`);
    } else {
      rank(rankings.add(ranking, label));
    }
  }

  function flag(label) {
    const on = byId(`harmful-${label}`).checked;
    markFlag(label, on);
    say(on ? `${label} is flagged as harmful.` : `${label} is not flagged.`);
  }

  function setFlagging(on) {
    flagging = on;
    say(on ? `Flag which answer as harmful: ${labels.join(", ")}? Any other key leaves it.` : "");
  }

  function act([name, label]) {
    if (name === "pick") pick(label);
    else if (name === "place") place(label);
    else if (name === "join") rank(rankings.toggleJoin(ranking));
    else if (name === "take-back") rank(rankings.takeBack(ranking));
    else if (name === "comment") byId("comment").focus();
    else if (name === "submit") submit();
    else if (name === "keys") byId("keys").showModal();
    else if (name === "start-flagging") setFlagging(true);
    else if (name === "stop-flagging") setFlagging(false);
    else if (name === "flag") {
      flagging = false;
      byId(`harmful-${label}`).checked = !byId(`harmful-${label}`).checked;
      flag(label);
    }
  }

  function inComment(event) {
    if (event.key === "Escape") focusOn(byId("task-title"));
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    else return;
    event.preventDefault();
  }

  function onKey(event) {
    const hidden = byId("review").hidden || task === null || byId("keys").open;
    // Modifiers alone come as key presses too, and must not end the waiting for a letter.
    if (hidden || event.repeat || event.isComposing || event.key === "Shift") return;
    if (event.target === byId("comment")) inComment(event);
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && takesEnter(event.target)) return;
    if (!byId("keys-on").checked && event.key !== "Enter") return;
    const action = actionOf(event.key, { kind: task.kind, labels, flagging });
    if (action === null) return;
    // Moving on with Tab ends the waiting too, but must still move on.
    if (event.key !== "Tab") event.preventDefault();
    if (!busy) act(action);
  }

  document.addEventListener("keydown", onKey);
  // The order of the answers belongs to the reviewer: under another key it is another task.
  access.addEventListener("change", stop);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  byId("tie-pick").addEventListener("change", () => pick("tie"));
  byId("join").addEventListener("click", () => act(["join"]));
  byId("take-back").addEventListener("click", () => act(["take-back"]));
  byId("show-keys").addEventListener("click", () => act(["keys"]));
  byId("look-again").addEventListener("click", load);
  byId("keys-on").checked = sessionStorage.getItem(KEYS_ON) !== "off";
  byId("keys-on").addEventListener("change", (event) => {
    sessionStorage.setItem(KEYS_ON, event.target.checked ? "on" : "off");
  });

  return {
    enter() {
      if (task === null) load();
    },
    accessChanged: load,
  };
}
