"""A lineage as text for people.

Told in the order of the pipeline: the instruction, the answers, the pair, every reading, the
training rows, what was dropped, and the settings of the stages that made all this.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from selfreward.reports.lineage import Entry, Lineage

SHOWN_CHARS = 300
_HEAD_TO_HEAD = "head_to_head"  # of two models' answers: nobody knows the better one
_UNTOLD = ("input", "inputs", "model")
"""Keys of a recipe that are fingerprints; which model it was stands with what it wrote."""


def lineage_text(lineage: Lineage, full: bool = False) -> str:
    """Tells a lineage; texts longer than `SHOWN_CHARS` are cut unless `full`."""
    return "\n".join(_Teller(lineage, None if full else SHOWN_CHARS).lines()) + "\n"


class _Teller:
    def __init__(self, lineage: Lineage, limit: int | None) -> None:
        self._lineage = lineage
        self._limit = limit
        self._labelled = {
            e.id
            for e in lineage.entries
            if e.record == "ResponsePair" and e.row["corruption"] != _HEAD_TO_HEAD
        }

    def lines(self) -> Iterator[str]:
        told = self._lineage
        kinds = sorted({e.record for e in told.entries if e.id == told.target})
        what = f" ({', '.join(kinds)})" if kinds else ""
        yield f"{told.target}{what} in run {told.run} ({told.loop})"
        yield from self._instructions()
        yield from self._created()
        yield from self._answers()
        for entry in self._of("ResponsePair"):
            yield from self._pair(entry)
        yield from self._readings()
        yield from self._training_rows()
        yield from self._drops()
        yield from self._settings()
        if told.unread:
            yield f"\nnot read, written by another version: {', '.join(told.unread)}"

    def _of(self, *records: str) -> list[Entry]:
        return [e for e in self._lineage.entries if e.record in records]

    def _head(self, title: str, ident: str, more: str = "", folders: Sequence[str] = ()) -> str:
        mark = "  <-- asked for" if ident == self._lineage.target else ""
        where = f"  [{', '.join(folders)}]" if folders else ""
        return f"\n{title} {ident}{f': {more}' if more else ''}{where}{mark}"

    def _text(self, text: str, indent: int = 2) -> str:
        rest = 0 if self._limit is None else len(text) - self._limit
        shown = text if rest <= 0 else f"{text[: self._limit]} … ({rest} more characters)"
        pad = " " * indent
        lines = ((pad + line).rstrip() for line in shown.splitlines())
        return "\n".join(lines) if shown else f"{pad}(no text)"

    def _messages(self, messages: Sequence[Mapping[str, str]], indent: int = 2) -> Iterator[str]:
        for message in messages:
            text = self._text(message["content"], indent + 2)
            yield f"{' ' * indent}{message['role']}: {text.strip()}"

    def _instructions(self) -> Iterator[str]:
        """Each once, wherever it stands: alone, or inside what was made of it."""
        folders: dict[str, list[str]] = {}
        rows: dict[str, dict[str, Any]] = {}
        made = ("CreatedInstruction", "AnsweredInstruction", "SampledInstruction")
        for entry in self._of("Instruction", *made):
            row = entry.row if entry.record == "Instruction" else entry.row["instruction"]
            rows.setdefault(row["id"], row)
            if entry.record != "AnsweredInstruction":
                folders.setdefault(row["id"], []).extend(entry.folders)
        for ident, row in rows.items():
            known = [("source", row["source"]), ("category", row["category"])]
            known += [("complexity", row["complexity"]), ("length", row["expected_length"])]
            more = ", ".join(f"{name} {value}" for name, value in known if value is not None)
            where = list(dict.fromkeys(folders.get(ident, ())))
            yield self._head("INSTRUCTION", ident, more, where)
            yield from self._messages(row["messages"])
            if row["reference_answer"] is not None:
                yield f"  reference answer: {self._text(row['reference_answer'], 4).strip()}"
        if self._lineage.shown_for:
            yield f"  shown as an example for: {', '.join(self._lineage.shown_for)}"

    def _created(self) -> Iterator[str]:
        for entry in self._of("CreatedInstruction"):
            row = entry.row
            more = f"by {_model(row['model'])}, round {row['round']}, draw {row['draw']}"
            more += f", part {row['part']}"
            yield self._head("WRITTEN", entry.id, more, entry.folders)
            yield f"  completion: {self._text(row['text'], 4).strip()}"
            for number, shot in enumerate(row["shot_ids"], 1):
                yield f"  example {number}: {self._shown(shot)}"

    def _shown(self, ident: str) -> str:
        found = self._lineage.shown.get(ident)
        if found is None:
            return f"{ident} (not in this run)"
        text = " / ".join(m["content"] for m in found.messages)
        return f"{ident} [{', '.join(found.folders)}]: {self._text(text, 4).strip()}"

    def _answers(self) -> Iterator[str]:
        for entry in self._of("AnsweredInstruction"):
            yield self._head("ANSWER", entry.id, folders=entry.folders)
            yield from self._response(entry.row["response"])
        for entry in self._of("SampledInstruction"):
            responses = entry.row["responses"]
            yield f"\n{len(responses)} CANDIDATES of {entry.id}  [{', '.join(entry.folders)}]"
            for response in responses:
                yield from self._response(response)
        for entry in self._of("ScoredResponse"):
            row = entry.row
            more = f"{row['score']:g} on {row['low']:g}-{row['high']:g} by people, {row['group']}"
            yield self._head("RANKED RESPONSE", entry.id, more, entry.folders)
            yield from self._messages(row["messages"])
            yield f"  response: {self._text(row['response'], 4).strip()}"

    def _response(self, row: Mapping[str, Any]) -> Iterator[str]:
        more = f"by {_model(row['model'])}, draw {row['draw']}, {row['finish_reason']}"
        more += f" after {row['num_tokens']} tokens"
        mark = "  <-- asked for" if row["id"] == self._lineage.target else ""
        yield f"  response {row['id']}: {more}{mark}"
        yield self._text(row["text"], 4)

    def _pair(self, entry: Entry) -> Iterator[str]:
        row = entry.row
        yield self._head("PAIR", entry.id, row["corruption"], entry.folders)
        known = {i for e in self._lineage.entries for i in e.inside}
        if row["instruction_id"] not in known:
            yield from self._messages(row["messages"])
        if row["modified_instruction"] is not None:
            yield f"  modified instruction: {self._text(row['modified_instruction'], 4).strip()}"
        for side in ("chosen", "rejected"):
            ident = row[f"{side}_id"]
            mark = "  <-- asked for" if ident == self._lineage.target else ""
            yield f"  {side}{f' {ident}' if ident else ''}:{mark}"
            yield self._text(row[side], 4)

    def _readings(self) -> Iterator[str]:
        """Draws by what was read, where, by whom and in which form."""
        for entry in self._of("RatingPair"):
            row = entry.row
            more = f"{row['first']['id']} and {row['second']['id']} compared"
            yield self._head("TWO RATINGS", entry.id, more, entry.folders)
        groups: dict[tuple[str, ...], list[Entry]] = {}
        for entry in self._of("Judgment", "Rating"):
            row = entry.row
            about = row.get("pair_id") or row["response_id"]
            by = f"by {_model(row['judge'])}, rubric {row['rubric_id']}"
            key = (about, ", ".join(entry.folders), by, row.get("position") or "")
            groups.setdefault(key, []).append(entry)
        for (about, folder, by, position), entries in sorted(groups.items()):
            order = f", {position.replace('_', ' ')}" if position else ""
            yield f"\nREADINGS of {about} {by}{order}: {self._tally(entries)}  [{folder}]"
            for entry in sorted(entries, key=lambda e: (e.row["draw"], e.id)):
                mark = "  <-- asked for" if entry.id == self._lineage.target else ""
                yield f"  {entry.id} draw {entry.row['draw']}: {self._verdict(entry.row)}{mark}"
                yield self._text(entry.row["text"], 4)
        for entry in self._of("PairScore", "ResponseLikelihood"):
            row = entry.row
            names = ("chosen", "rejected", "chosen_alone", "rejected_alone", "logp")
            said = ", ".join(f"{n} {row[n]:.4g}" for n in names if row.get(n) is not None)
            about = row.get("pair_id") or row["response_id"]
            by = _model(row.get("judge") or row["model"])
            yield self._head("SCORE", entry.id, f"of {about} by {by}: {said}", entry.folders)
        if self._lineage.prompt is not None:
            yield f"\nPROMPT of {self._lineage.target}, rendered by this version"
            yield from self._messages(self._lineage.prompt)
        for ident, prompt in self._lineage.side_prompts.items():
            yield f"\nPROMPT of the readings of {ident}, rendered by this version"
            yield from self._messages(prompt)

    def _training_rows(self) -> Iterator[str]:
        for entry in self._of("TrainingExample", "Preference"):
            row = entry.row
            used = ", ".join(f"M{i}" for i in entry.trained)
            more = f"trained {used}" if used else "no training has read it"
            title = "TRAINING EXAMPLE" if entry.record == "TrainingExample" else "PREFERENCE"
            yield self._head(title, entry.id, more, entry.folders)
            yield f"  about {row['pair_id']}{self._part_in(row)}"
            if (margin := row.get("verdict_margin")) is not None:  # older rows lack it
                yield f"  verdict margin {margin:.3g}"
            yield from self._messages(row["messages"])
            if entry.record == "TrainingExample":
                yield f"  target{_from(row['judgment_id'])}:"
                yield self._text(row["target"], 4)
                continue
            for side in ("chosen", "rejected"):
                score = row[f"{side}_score"]
                scored = "" if score is None else f", score {score:.4g}"
                yield f"  {side}{_from(row[f'{side}_id'])}{scored}:"
                yield self._text(row[side], 4)
            if row["label_confidence"] != 1.0:
                yield f"  weight {row['label_confidence']:.4g} of this order"

    def _part_in(self, row: Mapping[str, Any]) -> str:
        """What the target is to a training row about the same pair or instruction."""
        target = self._lineage.target
        read = {e.row.get("response_id") for e in self._lineage.entries if e.id == target}
        for side in ("chosen_id", "rejected_id", "judgment_id"):
            ident = row.get(side)
            if ident is not None and ident in {target, *read}:
                name = side.removesuffix("_id")
                return f"; its {name} is {target}" + ("" if ident == target else "'s response")
        if target.startswith(("jud-", "rat-", "res-")):
            return f"; made without {target}"
        return ""

    def _drops(self) -> Iterator[str]:
        if not self._lineage.drops:
            return
        yield "\nDROPPED"
        for drop in self._lineage.drops:
            # The first line says what happened; what follows is a text that was lost.
            what, _, text = drop["detail"].partition("\n")
            detail = f": {what}" if what else ""
            yield f"  {drop['row_id']} at {drop['stage']}, {drop['reason']}{detail}" + (
                f"  [{drop['folder']}]"
            )
            if text:
                yield self._text(text, 4)
            for ident in drop["refers_to"]:
                yield f"    {self._shown(ident)}"

    def _settings(self) -> Iterator[str]:
        yield "\nSETTINGS"
        made_by: dict[str, str] = {}
        for folder, note in sorted(self._lineage.stages.items()):
            running = "" if note.status == "complete" else f" ({note.status})"
            yield f"  {folder}: stage {note.stage}{running}"
            kind = note.recipe.get("engine.kind")
            told = [
                f"{key}={value if isinstance(value, str) else json.dumps(value)}"
                for key, value in note.recipe.items()
                if key not in _UNTOLD
                and value is not None
                and (kind == "scripted" or not key.startswith("engine.scripted."))
            ]
            if told:
                yield f"    {' '.join(told)}"
            versions = ", ".join(f"{k} {v}" for k, v in note.versions.items())
            if versions:
                same = made_by.setdefault(versions, folder)
                yield f"    versions: {versions if same == folder else f'as {same}'}"

    def _verdict(self, row: Mapping[str, Any]) -> str:
        verdict = row["verdict"]
        said: list[str] = [verdict["outcome"]]
        if verdict["choice"] is not None:
            said[0] += f" {verdict['choice']}"
            right = self._is_right(row)
            said += [] if right is None else ["right" if right else "wrong"]
        if verdict["score"] is not None:
            said[0] += f" {verdict['score']:g}"
        if verdict["probability_first"] is not None:
            said.append(f"P(first) {verdict['probability_first']:.3f}")
        said.append(f"{row['finish_reason']} after {row['num_tokens']} tokens")
        return ", ".join(said)

    def _is_right(self, row: Mapping[str, Any]) -> bool | None:
        """None where nobody knows the better one: of two ratings, of two models' answers."""
        if row["verdict"]["choice"] is None or row["pair_id"] not in self._labelled:
            return None
        gold = "first" if row["position"] == "chosen_first" else "second"
        return bool(row["verdict"]["choice"] == gold)

    def _tally(self, entries: Sequence[Entry]) -> str:
        """Example: `2 of 3 right, 1 unparsed`; `mean 3.5 of 2 scores, 1 truncated`."""
        rows = [e.row for e in entries]
        failed = Counter(r["verdict"]["outcome"] for r in rows)
        chosen, scored = failed.pop("choice", 0), failed.pop("score", 0)
        said = []
        if chosen:
            rights = [right for r in rows if (right := self._is_right(r)) is not None]
            choices = f"{chosen} choice{'s' * (chosen > 1)}"
            said.append(f"{sum(rights)} of {chosen} right" if rights else choices)
        if scored:
            scores = [r["verdict"]["score"] for r in rows if r["verdict"]["outcome"] == "score"]
            said.append(f"mean {sum(scores) / scored:.4g} of {scored} score{'s' * (scored > 1)}")
        said += [f"{n} {outcome}" for outcome, n in sorted(failed.items())]
        return ", ".join(said)


def _from(ident: str | None) -> str:
    return "" if ident is None else f" from {ident}"


def _model(row: Mapping[str, Any]) -> str:
    if row["name"] == row["fingerprint"]:
        return str(row["name"])  # people
    return f"M{row['iteration']} {row['name']} ({row['fingerprint']})"
