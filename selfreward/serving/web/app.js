// The frame: which view is shown, the key and the name at the top.

import { access, readAccess, writeAccess } from "./api.js";
import { announce, byId, focusOn } from "./dom.js";
import { createPlayground } from "./playground.js";
import { createReview } from "./review.js";
import { createAgreement } from "./agreement.js";
import { createHistory } from "./history.js";

// A view has enter(), called whenever it is shown, and accessChanged(), called while it is shown.
const views = {
  playground: createPlayground(),
  review: createReview(),
  agreement: createAgreement(),
  history: createHistory(),
};
let current = null;

function wantedView() {
  const name = location.hash.replace(/^#\//, "");
  return Object.hasOwn(views, name) ? name : "playground";
}

function show(name, moveFocus) {
  current = name;
  for (const view of Object.keys(views)) byId(view).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = byId(`${name}-title`);
  document.title = `${heading.textContent} · selfreward judge`;
  if (moveFocus) {
    scrollTo(0, 0);
    focusOn(heading);
  }
  views[name].enter();
}

function showAccess() {
  const { key, reviewer } = readAccess();
  byId("key").value = key;
  byId("reviewer").value = reviewer;
  byId("reviewer").disabled = key !== "";
  byId("forget").hidden = key === "" && reviewer === "";
  byId("access").classList.remove("wanted");
  byId("key").removeAttribute("aria-invalid");
  byId("access-state").textContent = key
    ? "The key is in use, and names you in reviews. It is kept until this tab is closed."
    : "";
}

function submitAccess(event) {
  event.preventDefault();
  const key = byId("key").value.trim();
  if (!/^[!-~]*$/.test(key)) {
    byId("key").setAttribute("aria-invalid", "true");
    byId("access-state").textContent = "A key has no spaces and no letters beyond A to Z.";
    byId("key").focus();
    return;
  }
  writeAccess({ key, reviewer: byId("reviewer").value.trim() });
}

function accessChanged() {
  showAccess();
  const { key, reviewer } = readAccess();
  announce(key ? "The key is in use." : reviewer ? `Reviews are by ${reviewer}.` : "No key in use.");
  views[current].accessChanged();
}

function askForKey() {
  byId("access").classList.add("wanted");
  byId("key").setAttribute("aria-invalid", "true");
  byId("access-state").textContent = readAccess().key
    ? "The service does not know this key."
    : "The service wants an API key.";
  byId("key").focus();
}

byId("access").addEventListener("submit", submitAccess);
byId("access").addEventListener("input", () => {
  byId("access-state").textContent = "Not in use yet: press Use.";
});
byId("forget").addEventListener("click", () => {
  writeAccess({ key: "", reviewer: "" });
  byId("key").focus();
});
access.addEventListener("change", accessChanged);
access.addEventListener("wanted", askForKey);
addEventListener("hashchange", () => show(wantedView(), true));
// The hash names the view, so the link to the content cannot use it.
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

showAccess();
show(wantedView(), false);
