"""The parts of a run's page, each as what the template shows: figures, tables, sentences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from jobs.reports.curves import Chart, Line, draw, points, spans_decades
from jobs.reports.facts import RunFacts
from jobs.reports.judged import LONGEST_NAME, MOST_LISTED, Judged, judged
from jobs.reports.matrix import MOST_DRAWN, draw_matrix, matrix_picture
from jobs.reports.overfitting import Verdict, judge
from jobs.reports.pictures import heat, png, wide
from jobs.reports.timeline import outcome_of
from jobs.reports.words import duration, metric, moment, percent, plural, short
from service.records.run_record import Document
from service.records.schemas import Row, RunState, Worker
from service.words import size

Section = dict[str, Any]
NOT_FINISHED = "This comes with the end of a run that succeeds: the model is then asked about the test examples."
NOT_MADE = "The run did not write it: it was made by another version of Delayline, or its events below say why."
MOST_OF_A_PICTURE = 200
"""Classes up to which the whole matrix is a picture, a pixel or more for each cell; of more the most confused are drawn."""
LEFT_OUT = "The pictures are left out: with them the page would be larger than 3 MB."
MOST_COLUMNS = 40
"""Of a feature that are named."""


def learning(facts: RunFacts) -> Section:
    """Curves of each metric, training and validation together, and whether the model over-fits."""
    if not facts.history:
        return {"missing": "No metrics have been written yet."}
    verdict = judge(facts.history)
    names = _metrics(facts.history)
    unit = facts.steps_per_epoch
    return {
        "verdict": verdict.sentence,
        "warn": verdict.since is not None,
        "figures": [_curve(facts, name, unit, verdict) for name in names],
    }


def _metrics(history: list[Row]) -> list[str]:
    """`loss`, `accuracy` and whatever else a task reports, loss first."""
    other = {"learning_rate", "examples_per_second"}
    names = dict.fromkeys(name.removeprefix("val_") for row in history for name in row.metrics if name not in other)
    return sorted(names, key=lambda name: (name != "loss", name != "accuracy"))


def _curve(facts: RunFacts, name: str, unit: int | None, verdict: Verdict) -> Markup:
    lines = [
        Line("training", points(facts.history, name, unit), 0),
        Line("validation", points(facts.history, f"val_{name}", unit), 1, dots=True),
    ]
    lines = [line for line in lines if line.points]
    share = name.endswith("accuracy")
    ends = ", ".join(f"{line.label} {metric(name, line.points[-1][1])} at the end" for line in lines)
    if name == "accuracy" and (chance := facts.model.get("chance")):
        furthest = max(line.points[-1][0] for line in lines)
        lines.append(Line("chance", [(0.0, float(chance)), (furthest, float(chance))], 7, style=1))
    marked = " The stretch of over-fitting is shaded." if verdict.since is not None else ""
    return draw(
        Chart(
            name=f"curve-{name}",
            title=name[:1].upper() + name[1:],
            description=f"Curve of the {name}: {ends}.{marked}",
            lines=lines,
            x_label="epoch" if unit else "step",
            share=share,
            log=not share and spans_decades(lines),
            since=None if verdict.since is None else verdict.since / (unit or 1),
            best=None if verdict.best is None or name != "loss" else verdict.best / (unit or 1),
        )
    )


def why_missing(facts: RunFacts) -> str:
    """Why a section that needs the trained model is left out."""
    if facts.standing != RunState.SUCCEEDED:
        return NOT_FINISHED
    left = [event.message for event in facts.events if event.event == "left out of the analysis"]
    return f"It was left out: {'; '.join(dict.fromkeys(left))}." if left and facts.results else NOT_MADE


def judgement(facts: RunFacts) -> Section:
    """The confusion matrix, each class's accuracy, and the most confident mistakes."""
    results, found = facts.results, judged(facts.results)
    if found is None:
        return {"missing": why_missing(facts)}
    shown = shown_classes(found)
    rows = [
        {"name": short(found.name(number), LONGEST_NAME), **{name: getattr(found.row(number), name) for name in _COLUMNS}}
        for number in shown
    ]
    right, examples = found.right, results["examples"]
    pairs = [(short(found.name(t), LONGEST_NAME), short(found.name(p), LONGEST_NAME), n) for (t, p), n in found.confused]
    return {
        "summary": f"{right:,} of {examples:,} test examples right, {percent(right / max(1, examples))}.",
        "sampled": examples < results["of"],
        "of": results["of"],
        "confused": [f"{true} for {predicted} ({count})" for true, predicted, count in pairs[:3]],
        "confused_table": pairs,
        "classes": rows,
        "many": found.classes > MOST_DRAWN,
        "classes_note": _classes_note(found, len(shown)),
        **_matrix(found),
        **_mistakes(facts, found),
    }


_COLUMNS = ("examples", "right", "recall", "precision")


def shown_classes(found: Judged) -> list[int]:
    """The classes of the table: all of few, in their order; of many those with examples, the lowest accuracy first."""
    if found.classes <= MOST_DRAWN:
        return list(range(found.classes))
    tested = {number: row.recall for number, row in found.rows.items() if row.recall is not None}
    return sorted(tested, key=lambda number: (tested[number], number))[:MOST_LISTED]


def _classes_note(found: Judged, shown: int) -> str:
    if found.classes <= MOST_DRAWN:
        return ""
    tested = sum(row.examples > 0 for row in found.rows.values())
    without = (
        "" if tested == found.classes else f" {found.classes - tested:,} of the {found.classes:,} classes have no example here."
    )
    return f"The lowest first{'' if shown == tested else f', {shown:,} of {tested:,}'}.{without}"


def _matrix(found: Judged) -> Section:
    if found.pairs is None:
        return {"matrix_missing": f"With {found.classes} classes a matrix would not be readable."}
    wrong = sum(count for (true, predicted), count in found.pairs.items() if true != predicted)
    totals = f"{found.right:,} right, on the diagonal; {wrong:,} wrong"
    if found.classes <= MOST_OF_A_PICTURE:
        counts = found.matrix(list(range(found.classes)))
        description = f"Confusion matrix of {plural(found.classes, 'class')}: {totals}."
        if found.classes > MOST_DRAWN:
            return {"matrix_picture": png(matrix_picture(counts)), "matrix_description": description}
        names = [found.name(number) for number in range(found.classes)]
        return {"matrix": draw_matrix(counts, names, description), "matrix_note": ""}
    chosen = sorted(found.most_confused[:MOST_DRAWN])
    if not chosen:
        return {"matrix_missing": f"No example was predicted as another class; the {found.classes:,} classes are not drawn."}
    note = f"These are the {len(chosen)} of {found.classes:,} classes with most mistakes; predictions of other classes are not shown."
    description = f"Confusion matrix of the {len(chosen)} most confused of {found.classes:,} classes. In all {totals}."
    rows = np.array([found.row(number).examples for number in chosen])
    return {
        "matrix": draw_matrix(found.matrix(chosen), [found.name(number) for number in chosen], description, rows),
        "matrix_note": note,
    }


def _mistakes(facts: RunFacts, found: Judged) -> Section:
    results = facts.results
    if not results["mistakes"]:
        return {"mistakes_missing": f"There is none: all {results['examples']:,} test examples are right."}
    named = [
        {**mistake, **{each: short(found.name(mistake[each]), LONGEST_NAME) for each in ("true", "predicted")}}
        for mistake in results["mistakes"]
    ]
    if "mistakes" not in facts.pictures:
        why = LEFT_OUT if "mistakes" in facts.left_out else "The examples are not pictures of one or three channels."
        return {"mistakes_missing": why, "mistakes_table": named}
    shown = [{**mistake, "picture": png(array)} for mistake, array in zip(named, facts.pictures["mistakes"], strict=False)]
    return {"mistakes": shown, "wrong": results["wrong"]}


def first_layer(facts: RunFacts) -> Section:
    """The first layer's filters and what they make of one example."""
    results = facts.results
    if not results:
        return {"missing": why_missing(facts)}
    found, first = judged(results), results.get("first_layer")
    if found is None or first is None:
        return {"missing": why_missing(facts)}
    if "filters" in facts.left_out:
        return {"missing": LEFT_OUT}
    if "why_not" in first or "filters" not in facts.pictures:
        return {"missing": first.get("why_not") or NOT_MADE}
    filters, activations = facts.pictures["filters"], facts.pictures.get("activations")
    section: Section = {
        **first,
        "true": short(found.name(first["true"]), LONGEST_NAME),
        "predicted": short(found.name(first["predicted"]), LONGEST_NAME),
        "shown": len(filters),
        "colour": filters.shape[-1] == 3,
        "pictures": [png(array) for array in filters],
        "example": png(facts.pictures["example"][0]) if "example" in facts.pictures else None,
    }
    if activations is None:
        return section
    if first["convolves"]:
        return {**section, "activations": [png(heat(array)) for array in activations]}
    return {**section, "activation_strip": png(heat(wide(activations)))}


def data(facts: RunFacts) -> list[tuple[str, str]]:
    """What the run was trained on."""
    manifest, counts = facts.data, facts.model.get("counts") or {}
    features = manifest.get("features") or facts.model.get("features") or []
    shapes = ", ".join(f"{f['name']} {'×'.join(map(str, f['shape']))} {f['dtype']}{_columns(f)}" for f in features)
    classes = manifest.get("classes") or facts.model.get("classes") or []
    rows = [
        ("dataset", f"{manifest['name']}, version {manifest['version']}"),
        ("examples", ", ".join(f"{counts[name]:,} {name}" for name in ("training", "validation", "test") if name in counts)),
        ("features", shapes),
        (
            "classes",
            f"{len(classes)}: {', '.join(short(name, LONGEST_NAME) for name in classes[:12])}{' …' if len(classes) > 12 else ''}"
            if classes
            else "",
        ),
        ("training examples of a class", _spread(counts, "validation" in (manifest.get("splits") or {}))),
        ("weights", str(facts.model.get("weights") or "")),
        ("size in the store", size(manifest["bytes"]) if manifest.get("bytes") else ""),
        ("imported", moment(manifest["imported"]) if manifest.get("imported") else ""),
        ("source", str(manifest.get("source") or "")),
    ]
    return [(name, value) for name, value in rows if value]


def _columns(feature: Document) -> str:
    """What each number of a feature is, in brackets, where they have names."""
    names = feature.get("columns") or []
    more = f" and {len(names) - MOST_COLUMNS} more" if len(names) > MOST_COLUMNS else ""
    return f" ({', '.join(short(str(name), LONGEST_NAME) for name in names[:MOST_COLUMNS])}{more})" if names else ""


def _spread(counts: Document, own_validation: bool) -> str:
    """How many training examples the classes have; a share of them is held out where the dataset has no validation split of its own."""
    if by_class := counts.get("by_class"):
        fewest, most = min(by_class), max(by_class)
    elif "most_of_a_class" in counts:
        fewest, most = counts["fewest_of_a_class"], counts["most_of_a_class"]
    else:
        return ""
    held_out = "" if own_validation else " (before the validation split)"
    return f"{fewest:,} each" if fewest == most else f"{fewest:,} to {most:,}{held_out}"


def attempts(facts: RunFacts) -> list[Document]:
    """The attempts as a table shows them."""
    return [
        {
            "number": attempt.number,
            "started": moment(attempt.started),
            "took": duration(attempt.finished - attempt.started) if attempt.finished else "–",
            "workers": _members(attempt.workers) or "–",
            "outcome": outcome_of(attempt, facts),
            "reason": attempt.reason or outcome_of(attempt, facts),
        }
        for attempt in facts.attempts
    ]


def _members(workers: Sequence[Worker], most: int = 8) -> str:
    named = [f"{worker.host} (process {worker.pid})" for worker in workers[:most]]
    more = f" and {len(workers) - most} more" if len(workers) > most else ""
    return ", ".join(named) + more


def machines(facts: RunFacts) -> list[Document]:
    """The workers of the last attempt and what each runs on."""
    found = {machine["rank"]: machine for machine in facts.machines}
    members = facts.attempts[-1].workers if facts.attempts else ()
    rows = []
    for rank, host in [(member.rank, member.host) for member in members] or [(rank, "") for rank in found]:
        machine = found.get(rank, {})
        rows.append(
            {
                "rank": rank,
                "host": host or machine.get("host") or "unknown",
                "processor": machine.get("processor", "unknown"),
                "cores": f"{machine['cpus']:g} of {machine['cores']}" if machine else "–",
                "memory": size(machine["memory"]) if machine else "–",
                "gpus": ", ".join(machine.get("gpus") or []) or "none",
            }
        )
    return rows
