"""The page of what became of the planted changes, written from the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from faults.change import CAUGHT, MISSED, PASSES, WITHIN_FACTOR, WITHIN_NOISE
from faults.command import GENERAL, NONE, RIGHT, WRONG

COMMAND = "PYTHONPATH=tests python -m faults.page --output docs/runs/detection.json"
LONGEST = 90
"""The most characters of a message that the page shows; all of it is in the JSON file."""


def page(results: Mapping[str, Any]) -> str:
    """Write the page, in Markdown: what was caught and how, what changes nothing, and what passed as it has to."""
    changes = results["changes"]
    faults = [c for c in changes if c["expected"] != PASSES]
    sound = [c for c in changes if c["expected"] == PASSES]
    states = Counter(c["state"] for c in faults)
    causes = Counter(c.get("cause", NONE) for c in faults if c["state"] == CAUGHT)
    models = sorted({c["model"] for c in changes})
    versions = ", ".join(f"{name} {version}" for name, version in results["made_with"].items() if version)
    lines = [
        "# What the suite catches, and what it lets pass",
        "",
        f"    {COMMAND}",
        "",
        "Written by that command. It plants a fault into a real file, input or program, gives it to `pytest` as a user",
        "does, and reads from the report what became of it. Beside the faults are sound changes, which have to pass.",
        "`pytest -m meta` asserts the same. Longer messages and causes are in [the JSON file](runs/detection.json).",
        "",
        f"- **{len(faults)} faults** in {len(models)} models ({', '.join(f'`{m}`' for m in models)}): "
        f"{states[CAUGHT]} caught, {states[WITHIN_NOISE]} within the noise of the model itself, "
        f"{states[WITHIN_FACTOR]} within the factor that an engine has beyond it, "
        f"{states[MISSED]} missed.",
        f"- **{len(sound)} sound changes**: {sum(c['state'] == PASSES for c in sound)} passed.",
        f"- The likely cause of what was caught: {causes[RIGHT]} right, {causes[GENERAL]} in a list of all "
        f"that is left, {causes[WRONG]} wrong, {causes[NONE]} without "
        f"one. Wrong and told as tried: {sum(bool(c.get('proved')) and c.get('cause') == WRONG for c in faults)}. "
        "What is refused at once has no other cause than the error, which is right where it names the fault.",
    ]
    if "cpu_seconds" in results:
        lines.append(
            f"- All of it took {results['cpu_seconds'] / 60:.0f} CPU minutes, {results['seconds'] / 60:.0f} minutes by "
            f"the clock. Made with {versions}; {results['machine']}."
        )
    for device in dict.fromkeys(c["device"] for c in changes if "device" in c):
        count = sum(c.get("device") == device for c in changes)
        lines.append(f"- {count} of these changes are to TensorRT plans, and ran on one {device}.")
    lines += [
        "",
        "## Faults",
        "",
        "| fault | model | file | | by | first line | likely cause |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(c["kind"] for c in faults):
        lines.append(f"| **{kind}** | | | | | | |")
        lines += [_row(c) for c in faults if c["kind"] == kind]
    quiet = [c for c in faults if c["state"] not in {CAUGHT, "no verdict"}]
    if quiet:
        lines += ["", "### What no test tells of", ""]
        lines += ["*Within the noise*: all figures are below what sound rounding does to this model, and no more"]
        lines += ["classes change than the sound file changes. *Within its factor*: the same, up to the factor that an"]
        lines += ["engine may be beyond the noise, 2 in FP32 and FP16 and 1.5 in INT8. The ratio is that of the figure"]
        lines += ["which needs most, to what 99 % of the noise's runs reach; flips are on all samples.", ""]
        lines += ["| fault | model | file | | ratio to the noise | flips | why |", "|---|---|---|---|---|---|---|"]
        lines += [
            f"| {c['name']} | `{c['model']}` | {c['variant']} | {c['state']} | {c.get('ratio') or 0:.2g} "
            f"| {c.get('flips', 0)} | {c.get('why', '')} |"
            for c in quiet
        ]
    lines += [
        "",
        "## Sound changes",
        "",
        "| change | model | file | | needed of what is allowed |",
        "|---|---|---|---|---|",
    ]
    for c in sound:
        state = c["state"] if c["state"] == PASSES else f"**{c['state']}**: {_short(c.get('message', ''))}"
        lines.append(f"| {c['name']} | `{c['model']}` | {c['variant']} | {state} | {_needed(c)} |")
    if "graded" in results:
        lines += _graded(results["graded"])
    return "\n".join(lines) + "\n"


def _graded(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Table of the faults of growing size."""
    lines = ["", "## Faults of growing size", ""]
    lines += ["    PYTHONPATH=tests python -m faults.graded --output docs/runs/detection.json", ""]
    lines += ["Bisected on all samples. A ratio is the mean difference from the reference, over what the model's twin"]
    lines += ["reaches in 99 of 100 runs; that of the sound file stands beside it. Flips and accuracy are those of the"]
    lines += ["largest that is not caught.", ""]
    for precision in dict.fromkeys(one["precision"] for one in found):
        ratios = [one["caught"]["ratio"] for one in found if one["precision"] == precision and one["caught"]]
        lines.append(
            f"- {precision.upper()}: the smallest that is caught is {median(ratios):.2g} times the noise, as the"
        )
        lines.append(f"  median of {len(ratios)}.")
    lines += ["", "| fault | model | | sound | caught from | ratio | not caught at | ratio | flips | accuracy |"]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    for one in found:
        caught, missed = one["caught"] or {}, one["uncaught"] or {}
        cells = [one["fault"], f"`{one['model']}`", one["precision"], one["sound"]]
        cells += [caught.get("size", "never"), caught.get("ratio", ""), missed.get("size", ""), missed.get("ratio", "")]
        cells += [missed.get("flips", ""), f"{100 * missed['accuracy']:.2f} %" if missed else ""]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _row(change: Mapping[str, Any]) -> str:
    state = change["state"] if change["state"] in {CAUGHT, WITHIN_NOISE} else f"**{change['state']}**"
    tests = change.get("tests", [])
    by = f"`{tests[0]}`" + (f" and {len(tests) - 1} more" if len(tests) > 1 else "") if tests else ""
    cause = change.get("cause", NONE) if change["state"] == CAUGHT else ""
    told = f"{cause}: {_short(change['likely'])}" if change.get("likely") else cause
    cells = (
        change["name"],
        f"`{change['model']}`",
        change["variant"],
        state,
        by,
        _short(change.get("message", "")),
        told,
    )
    return f"| {' | '.join(cells)} |"


def _needed(change: Mapping[str, Any]) -> str:
    needed = change.get("needed")
    return "" if needed is None else f"{needed:.2g}"


def _short(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
