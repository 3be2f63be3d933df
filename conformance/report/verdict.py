"""The verdict on a run in words: what broke, where, how badly, why, and how to see it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.report.document import Document, any_of
from conformance.report.numbers import apart, number, plural
from conformance.report.samples import REAL, OnSamples, on_samples
from conformance.report.wording import FIGURES, INPUTS

NAMED = 3
"""Up to so many broken variants are named in the headline."""


NOT_BUILT = "cannot be built or run"
"""What is wrong with a variant of which no test got as far as running it."""


REFUSED = "cannot be a reference"
"""What is wrong with a SavedModel that nothing can be compared with."""


NOT_TESTED = ("skipped", "not run", "not judged")
"""The verdicts of variants that nothing is known of."""


@dataclass(frozen=True)
class Broken:
    """One thing that is broken: a variant with all its failed tests, or a failed test of no variant.

    ``what`` is a verb with its object, or the whole title where there is no variant. ``extent`` says how badly, a
    sentence each: ``plain`` are those whose figures the tiles of the page show too, ``more`` the others. ``likely`` is
    None where no cause was found.
    """

    what: str
    model: str | None
    variant: str | None
    plain: tuple[str, ...]
    more: tuple[str, ...]
    likely: str | None
    replay: str
    tests: tuple[Mapping[str, Any], ...]

    @property
    def title(self) -> str:
        """Words on what is broken."""
        return self.what if self.variant is None else f"{self.variant} of {self.model} {self.what}"

    @property
    def extent(self) -> tuple[str, ...]:
        """Sentences on how badly."""
        return self.plain + self.more

    def __str__(self) -> str:
        """Title, extent and likely cause in a line."""
        likely = f" Likely: {self.likely}." if self.likely else ""
        return f"{self.title}: {' '.join(self.extent)}{likely}"


def compared(document: Document) -> list[Mapping[str, Any]]:
    """Variants other than the reference whose outputs were compared with it."""
    references = {m["name"]: m["reference"] for m in document["models"]}
    return [
        v for v in document["variants"] if v["variant"] != references[v["model"]] and any_of(document["comparisons"], v)
    ]


def agreeing(document: Document) -> list[Mapping[str, Any]]:
    """Compared variants that give the reference's answers, whatever else of them fails."""
    return [v for v in compared(document) if all(c["passed"] for c in any_of(document["comparisons"], v))]


def outcome(document: Document) -> str:
    """Status of the verdict, or ``known`` for a run that passed although tests failed as known."""
    status = str(document["verdict"]["status"])
    return "known" if status == "passed" and document["tests"]["xfailed"] else status


def left_out(document: Document, verdict: str = "skipped") -> dict[str, list[str]]:
    """Group the variants that were skipped, or not judged, by their reason."""
    reasons: dict[str, list[str]] = {}
    for variant in document["variants"]:
        if variant["verdict"] == verdict:
            reasons.setdefault(variant["reason"] or "no reason given", []).append(
                f"{variant['model']}-{variant['variant']}"
            )
    return reasons


def skips(document: Document) -> list[str]:
    """Sentences on which variants were not judged, and which skipped, one for each reason."""
    return [
        f"{plural(len(names), 'variant')} {verdict} ({named(names)}): {_sentence(reason)}"
        for verdict in ("not judged", "skipped")
        for reason, names in left_out(document, verdict).items()
    ]


def not_tested(document: Document) -> list[Mapping[str, Any]]:
    """Variants other than the reference that were skipped, or that no test of ran."""
    references = {m["name"]: m["reference"] for m in document["models"]}
    return [v for v in document["variants"] if v["variant"] != references[v["model"]] and v["verdict"] in NOT_TESTED]


def also(document: Document) -> str:
    """Words on how many variants were not tested, beside those of the headline; empty where all were."""
    count, failures = len(not_tested(document)), document["failures"]
    counted = any(f["variant"] for f in failures) if failures else not document["tests"]["failed"]
    which = f"{count} more" if counted else plural(count, "variant")
    return f"{which} {'was' if count == 1 else 'were'} not tested" if count else ""


def named(names: Sequence[str]) -> str:
    """Several variants, named by the first and the last."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def what_is_broken(document: Document) -> list[Broken]:
    """What is broken: variants in the order of the chain, then tests of no variant."""
    found = []
    for variant in document["variants"]:
        if tests := any_of(document["failures"], variant):
            found.append(_of_variant(document, variant, tests))
    for test in document["failures"]:
        if test["variant"] is None:
            ends = {"collect": " cannot be collected", "run": ""}
            what = test["test"] + ends.get(test["phase"], " failed")
            found.append(
                Broken(what, None, None, (), (_sentence(test["summary"]),), test["likely"], test["replay"], (test,))
            )
    return found


def _what(document: Document, variant: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> str:
    """Words on what is wrong with a variant: the worst that is known of it."""
    if unusable := [t["unusable"] for t in tests if t.get("unusable")]:
        return _unusable(document, variant, unusable[0])
    if any(not c["passed"] for c in any_of(document["comparisons"], variant)):
        return "does not give the reference's answers"
    if lost := [row for row in any_of(document["accuracy"], variant) if inaccurate(row)]:
        return _inaccuracy(lost[0])
    if any(depends_on_batch(row) for row in any_of(document["batching"], variant)):
        return "gives answers that depend on the batch"
    if any(not f["held"] for f in _judged(any_of(document["floors"], variant))):
        return "is slower than its floor"
    never = all(t["phase"] == "setup" or "test_builds" in t["test"] for t in tests)
    return NOT_BUILT if never else f"fails {plural(len(tests), 'test')}"


def _unusable(document: Document, variant: Mapping[str, Any], how: str) -> str:
    """Words on what cannot be used, where a test fails of that which many tests need."""
    if how != "trusted":
        return NOT_BUILT
    references = {m["name"]: m["reference"] for m in document["models"]}
    return REFUSED if references[variant["model"]] == variant["variant"] else "has no reference that can be trusted"


def _of_variant(document: Document, variant: Mapping[str, Any], tests: list[Mapping[str, Any]]) -> Broken:
    comparisons = [c for c in any_of(document["comparisons"], variant) if not c["passed"]]
    found = on_samples(document, variant)
    # What fewer of the same samples show says nothing more.
    plain = [_of_comparison(c, found) for c in comparisons if shown_in_tiles(c) and found and c is found.judged]
    extent = [_of_comparison(c, None) for c in comparisons if not shown_in_tiles(c)]
    for row in any_of(document["accuracy"], variant):
        if inaccurate(row):
            shares = (row[key] / row["samples"] for key in ("correct", "reference_correct"))
            own, reference = (f"{100 * share:.2f} %" for share in shares)
            plain.append(f"Accuracy is {own}, the reference's {reference}, on {plural(row['samples'], 'sample')}.")
            plain += [_of_comparison(found.judged, found)] if found and found.judged["passed"] else []
    for row in any_of(document["batching"], variant):
        if row["problems"]:
            extent.append(f"What batches give cannot be compared with single samples: {row['problems'][0]}.")
        elif depends_on_batch(row):
            by, limit = apart(row["largest"], row["allowed"])
            extent.append(f"A sample's answer depends on its batch: by {by}, allowed {limit}.")
    for floor in _judged(any_of(document["floors"], variant)):
        if not floor["held"]:
            shown, limit = apart(floor["found"], floor["floor"], 3)
            plain.append(f"{floor['ratio']}: {shown}, the floor is {limit}.")
    if not plain and not extent:
        extent.append(_sentence(tests[0]["summary"]))
    told = next((t for t in tests if t["likely"]), tests[0])
    return Broken(
        _what(document, variant, tests),
        variant["model"],
        variant["variant"],
        tuple(plain),
        tuple(extent),
        told["likely"],
        told["replay"],
        tuple(tests),
    )


def inaccurate(row: Mapping[str, Any]) -> bool:
    """Whether too much accuracy was lost, or there is none; not where the labels are too few to tell."""
    return not row["passed"] and (row["least"] is not None or drop(row) > 0)


def _inaccuracy(row: Mapping[str, Any]) -> str:
    if drop(row) > 0:
        return "loses accuracy"
    guesses = "is no more accurate than guessing"
    return guesses if row["correct"] < row["least"] else f"is judged by a reference that {guesses}"


def drop(row: Mapping[str, Any]) -> int:
    """Count the right answers that are lost beyond what is allowed."""
    return int(row["reference_correct"] - row["correct"] - (row["allowed_drop"] or 0))


def depends_on_batch(row: Mapping[str, Any]) -> bool:
    """Whether batches give something else than single samples, or nothing that can be compared with it."""
    return bool(row["problems"] or row["largest"] > row["allowed"])


def _judged(floors: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (f for f in floors if f["held"] is not None)


def shown_in_tiles(comparison: Mapping[str, Any]) -> bool:
    """Whether the tiles of the page tell all of a comparison that failed: how many classes, how far."""
    max_ = comparison["figures"].get("max")
    return comparison["inputs"] in REAL and not comparison["problems"] and max_ is not None and not _held(*max_)


def _of_comparison(comparison: Mapping[str, Any], found: OnSamples | None) -> str:
    """Sentence on what is wrong in a comparison, and, of that on the samples, how it is on all that were run."""
    where = f"On {INPUTS.get(comparison['inputs'], comparison['inputs'])}"
    if comparison["problems"]:
        return f"{where}: {'; '.join(comparison['problems'])}."
    parts, wrong = [], {n: f for n, f in comparison["figures"].items() if not _held(*f)}
    if "flips" in comparison["figures"]:
        flips, samples = (found.flips, found.samples) if found else (comparison["flips"], comparison["samples"])
        verb = "changes" if flips == 1 else "change"
        parts.append(f"{flips:,} of {samples:,} {verb} class")
    if found:
        wrong = {"max": (found.largest, comparison["figures"]["max"][1])}
    elif "max" in wrong:
        wrong = {"max": wrong["max"]}
    for name, figure in wrong.items():
        shown, limit = apart(*figure)
        parts.append(f"the {FIGURES.get(name, name)} is {shown}, allowed {limit}")
    if found and found.more:
        needed = number(comparison["figures"]["max"][0])
        parts.append(f"in the agreement test {comparison['flips']:,} of {comparison['samples']:,}, and {needed}")
    return f"{where}: {'; '.join(parts)}."


def _held(needed: float | None, allowed: float) -> bool:
    return needed is not None and needed <= allowed


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def verdict(document: Document) -> dict[str, Any]:
    """Judge a whole run: its ``verdict`` section, from all the other sections.

    A run that nothing failed in passes only where it came to its end, and a variant other than the reference was
    compared and gives its answers. A report of nothing, or of known failures alone, is not a good report.
    """
    tests, found = document["tests"], what_is_broken(document)
    finished = tests["not_run"] == 0 and document["exit_code"] in {0, 1, 5} and not _uncollected(document)
    told = [str(f) for f in found]
    if tests["failed"] or found:
        status, headline = "failed", _broken(document, found)
    elif problem := _undecided(document, finished):
        status, headline = "incomplete", f"Not a verdict: {problem}"
    else:
        status, headline = "passed", _good(document)
    if status != "incomplete" and (left := also(document)):
        headline += f". {left}"
    if not finished and not (tests["collected"] or found):
        told.append("No test has run: the run is still going on, was killed, or stopped before its first test.")
    elif not finished:
        never = f"{plural(tests['not_run'], 'selected test')} never ran"
        told.append(
            f"The run stopped early: {never}."
            if tests["not_run"]
            else f"pytest ended with exit code {document['exit_code']}."
        )
    told += skips(document)
    if tests["deselected"]:
        told.append(f"{plural(tests['deselected'], 'test')} deselected by options: this is not the whole suite.")
    return {"status": status, "complete": finished, "sentences": [headline + ".", *told]}


def _broken(document: Document, found: Sequence[Broken]) -> str:
    """Count what is broken, beside what is tested: what was not built, or did not run, is not."""
    unbuilt = [f for f in found if f.what == NOT_BUILT]
    refused = [f for f in found if f.what == REFUSED]
    broken = [f for f in found if f.variant is not None and f.what not in {NOT_BUILT, REFUSED}]
    others = len(found) - len(unbuilt) - len(refused) - len(broken)
    references = {(m["name"], m["reference"]) for m in document["models"]}
    ran = {(v["model"], v["variant"]) for v in document["variants"] if v["verdict"] not in NOT_TESTED}
    # The reference is no variant that is tested, but where it breaks its own promises.
    tested = ran - references - {(f.model, f.variant) for f in unbuilt} | {(f.model, f.variant) for f in broken}
    verb = "is" if len(broken) == 1 else "are"
    counted = plural(len(tested), "tested variant")
    parts = [f"{len(broken)} of {counted} {verb} broken{_which(broken)}"] if broken else []
    parts += [f"{plural(len(unbuilt), 'variant')} {NOT_BUILT}{_which(unbuilt)}"] if unbuilt else []
    parts += [f"nothing can be compared with {f.variant} of {f.model}: it {REFUSED}" for f in refused]
    parts += [f"{plural(others, 'failure')} beside the variants"] if others else []
    return "; ".join(parts) or f"{plural(document['tests']['failed'], 'test')} failed"


def _which(found: Sequence[Broken]) -> str:
    """Variants of what is broken, by name, where they are few."""
    return f": {', '.join(f'{f.variant} of {f.model}' for f in found)}" if len(found) <= NAMED else ""


def _good(document: Document) -> str:
    judged, good = compared(document), len(agreeing(document))
    known = sum(v["verdict"] == "known failure" for v in judged)
    also_known = f"; {known} {'has' if known == 1 else 'have'} known failures" if known else ""
    if good < len(judged):
        give = "gives" if good == 1 else "give"
        return f"{good} of {len(judged)} variants that were compared {give} the reference's answers{also_known}"
    if good == 1:
        return f"The variant that was compared gives the reference's answers{also_known and ', and has known failures'}"
    return f"All {good} variants that were compared give the reference's answers{also_known}"


def _undecided(document: Document, finished: bool) -> str:
    """Reason why a run that nothing failed in proves nothing; empty where it does."""
    if not finished:
        return "the run did not finish"
    if document["exit_code"] not in {0, 5}:
        return f"pytest ended with exit code {document['exit_code']}, and no failure was reported"
    if not compared(document):
        return "no outputs of a variant were compared with the reference's"
    return "" if agreeing(document) else "no variant gives the reference's answers, and all that differ are known to"


def _uncollected(document: Document) -> bool:
    return any(f["phase"] == "collect" for f in document["failures"])
