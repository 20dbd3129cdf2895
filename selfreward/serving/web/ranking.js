// A ranking that is being made: groups of letters from best to worst. Nothing here is changed in
// place; each function gives the next ranking.

export const EMPTY = { groups: [], join: false };

export const placed = (ranking) => ranking.groups.flat();

export const missing = (ranking, labels) => labels.filter((label) => !placed(ranking).includes(label));

/** Puts a letter last, or beside the last where they are to be equal. A placed one stays. */
export function add(ranking, label) {
  if (placed(ranking).includes(label)) return ranking;
  const groups = ranking.groups;
  if (!ranking.join) return { groups: [...groups, [label]], join: false };
  return { groups: [...groups.slice(0, -1), [...groups.at(-1), label]], join: false };
}

/** Makes the next letter equal to the last, or no longer; without a last letter nothing happens. */
export function toggleJoin(ranking) {
  return ranking.groups.length ? { ...ranking, join: !ranking.join } : ranking;
}

/** Takes back the last step: a waiting `=`, or else the last letter. */
export function takeBack(ranking) {
  if (ranking.join || !ranking.groups.length) return { ...ranking, join: false };
  const last = ranking.groups.at(-1).slice(0, -1);
  const before = ranking.groups.slice(0, -1);
  return { groups: last.length ? [...before, last] : before, join: false };
}

/** The place of a letter from 1 on, counting equal ones once each, or null. */
export function placeOf(ranking, label) {
  let place = 1;
  for (const group of ranking.groups) {
    if (group.includes(label)) return place;
    place += group.length;
  }
  return null;
}
