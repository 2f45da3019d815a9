"""What a finished model answered on the test texts: predictions.csv, and errors.md with its largest losses."""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.base.files import replacing, write_text

Row = dict[str, Any]
"""`text`, `label`, `prediction` and `loss` of a text, what else a job tells of it, and `mistakes` in words"""
Entity = tuple[str, int, int]
"""type, first token, and the token after the last"""
SHOWN = 20
"""texts in errors.md"""
MISTAKES = 50
"""kinds of mistakes in errors.md, the most frequent first"""
LONGEST = 1000
"""characters of a text in errors.md"""
SMALLEST = 1e-12
"""least probability whose logarithm is taken"""


def classified_rows(
    texts: Sequence[str], labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> list[Row]:
    """A row for each text of a classification; the loss is the cross-entropy in nats.

    Args:
        texts: N texts.
        labels: (N,) int, the true classes.
        probabilities: (N, C) of the classes.
        classes: names of the C classes.

    Examples:
        >>> classified_rows(["dull"], np.array([0]), np.array([[0.25, 0.75]]), ["neg", "pos"])[0]["mistakes"]
        ['neg taken for pos']
    """
    rows = []
    for text, label, row in zip(texts, labels.tolist(), probabilities.tolist(), strict=True):
        best = int(np.argmax(row))
        rows.append(
            {
                "text": text,
                "label": classes[label],
                "prediction": classes[best],
                "loss": -math.log(max(row[label], SMALLEST)),
                **_columns(classes, row),
                "mistakes": [f"{classes[label]} taken for {classes[best]}"] * (best != label),
            }
        )
    return rows


def number_rows(texts: Sequence[str], targets: np.ndarray, numbers: np.ndarray) -> list[Row]:
    """A row for each text of a regression, with targets and numbers (N,); the loss is the squared error."""
    return [
        {"text": text, "label": target, "prediction": number, "loss": (number - target) ** 2, "mistakes": []}
        for text, target, number in zip(texts, targets.tolist(), numbers.tolist(), strict=True)
    ]


def label_set_rows(
    texts: Sequence[str], targets: np.ndarray, probabilities: np.ndarray, thresholds: Any, classes: Sequence[str]
) -> list[Row]:
    """A row for each text with a set of labels; the loss is the mean binary cross-entropy in nats.

    Args:
        texts: N texts.
        targets: (N, C) of 0 and 1.
        probabilities: (N, C) of the labels.
        thresholds: least probability of a label that is predicted, (C,) or (N, C).
        classes: names of the C labels.
    """
    predicted = probabilities >= thresholds
    clipped = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    losses = -np.where(targets > 0, np.log(clipped), np.log(1 - clipped)).mean(axis=1)
    rows = []
    for text, truth, chosen, loss, row in zip(texts, targets > 0, predicted, losses, probabilities, strict=True):
        missed = [f"{name} missed" for name, wrong in zip(classes, truth & ~chosen, strict=True) if wrong]
        added = [f"{name} added" for name, wrong in zip(classes, chosen & ~truth, strict=True) if wrong]
        names = ["|".join(name for name, on in zip(classes, mask, strict=True) if on) for mask in (truth, chosen)]
        rows.append(
            {
                "text": text,
                "label": names[0],
                "prediction": names[1],
                "loss": float(loss),
                **_columns(classes, row.tolist()),
                "mistakes": [*missed, *added],
            }
        )
    return rows


def entity_row(
    tokens: Sequence[str], true: Sequence[Entity], predicted: Mapping[Entity, float], loss: float, space: str = " "
) -> Row:
    """A row for a tagged sentence, with the scores of the predicted entities in their order.

    Args:
        tokens: of the sentence.
        true: its entities: type, first token, and the token after the last.
        predicted: those that were found, with their scores.
        loss: the negative log-likelihood of the true tags, in nats.
        space: what joins tokens to a text.

    Examples:
        >>> row = entity_row(["Ada", "Byron", "left"], [("PER", 0, 2)], {("PER", 0, 1): 0.9, ("LOC", 2, 3): 0.5}, 4.2)
        >>> row["label"], row["prediction"], row["scores"]
        ('PER: Ada Byron', 'PER: Ada; LOC: left', '0.9000; 0.5000')
        >>> row["mistakes"]
        ['PER with other ends', 'LOC added']
    """
    mistakes = _entity_mistakes(set(true) - predicted.keys(), predicted.keys() - set(true))
    words = {entity: f"{entity[0]}: {space.join(tokens[entity[1] : entity[2]])}" for entity in (*true, *predicted)}
    return {
        "text": space.join(tokens),
        "label": "; ".join(words[entity] for entity in true),
        "prediction": "; ".join(words[entity] for entity in predicted),
        "loss": loss,
        "scores": "; ".join(f"{score:.4f}" for score in predicted.values()),
        "mistakes": mistakes,
    }


def _entity_mistakes(missed: Iterable[Entity], added: Iterable[Entity]) -> list[str]:
    """Entities that were missed or added, in words; a missed one is paired with an added one that overlaps it."""
    mistakes = []
    unpaired = sorted(added, key=lambda entity: entity[1:])
    for name, start, end in sorted(missed, key=lambda entity: entity[1:]):
        other = next((entity for entity in unpaired if entity[1] < end and entity[2] > start), None)
        if other is None:
            mistakes.append(f"{name} missed")
            continue
        unpaired.remove(other)
        mistakes.append(f"{name} with other ends" if other[0] == name else f"{name} taken for {other[0]}")
    return [*mistakes, *(f"{name} added" for name, _, _ in unpaired)]


def write_predictions(folder: Path, rows: Sequence[Row]) -> None:
    """Writes predictions.csv, a row for each test text in their order, and errors.md.

    Raises:
        InputError: the folder cannot be written.
    """
    with replacing(folder / "predictions.csv", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "mistakes"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    write_text(folder / "errors.md", errors_page(rows))


def top_losses(rows: Sequence[Row], count: int) -> list[Row]:
    """The rows with the largest losses, largest first."""
    return sorted(rows, key=lambda row: -row["loss"])[:count]


def errors_page(rows: Sequence[Row]) -> str:
    """The page of errors.md: how often each kind of mistake was made, and the texts with the largest losses."""
    mistakes = Counter(mistake for row in rows for mistake in row["mistakes"])
    lines = [f"# What the model answered on {len(rows):,} test texts", ""]
    if mistakes:
        lines += ["| mistake | times |", "|---|---|"]
        lines += [f"| {_escaped(name)} | {count:,} |" for name, count in mistakes.most_common(MISTAKES)]
        lines.append("")
    lines += [f"## The largest losses ({min(SHOWN, len(rows))} texts)", ""]
    for number, row in enumerate(top_losses(rows, SHOWN), 1):
        head = f"{number}. **loss {row['loss']:.3g}**: {_cell(row['label'])!r}, predicted {_cell(row['prediction'])!r}"
        text = " ".join(str(row["text"]).split())
        cut = text[:LONGEST] + " …" * (len(text) > LONGEST)
        lines += [_escaped(head), "", f"   > {_escaped(cut)}", ""]
    return "\n".join(lines)


def _columns(classes: Sequence[str], probabilities: Sequence[float]) -> dict[str, float]:
    return {f"p({name})": p for name, p in zip(classes, probabilities, strict=True)}


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _escaped(text: str) -> str:
    """The text without what Markdown or HTML would read as markup."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
