// Building elements. Text only ever becomes text nodes, so nothing a model wrote can be markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; null children are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null));
  return element;
}

/** A table that scrolls by itself where the screen is narrow. Columns: {head, number?}. */
export function table(caption, columns, rows) {
  const kind = (i) => ({ class: columns[i].number ? "number" : null });
  const cells = (row) =>
    row.map((cell, i) => (i === 0 ? h("th", { scope: "row" }, cell) : h("td", kind(i), cell)));
  return h(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map((c, i) => h("th", { scope: "col", ...kind(i) }, c.head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row)))),
    ),
  );
}

/** Pairs of a term and what it is. */
export function facts(entries) {
  return h(
    "dl",
    { class: "facts" },
    entries.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))),
  );
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** Says something to a screen reader. The text is taken away first, so that the same one is heard twice. */
export function announce(text) {
  const live = byId("live");
  live.textContent = "";
  requestAnimationFrame(() => {
    live.textContent = text;
  });
}

/** Moves the focus to a heading or region that is not a control. */
export function focusOn(element) {
  element.focus({ preventScroll: true });
  element.scrollIntoView({ block: "nearest" });
}
