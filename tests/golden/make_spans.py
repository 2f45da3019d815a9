"""Makes `spans.json`: what seqeval finds in random tags of all schemes, and how it scores one list by another.

Run with seqeval installed: python tests/golden/make_spans.py
"""

import json
import random
import warnings
from pathlib import Path

from seqeval.metrics import (  # pyright: ignore[reportMissingImports]
    classification_report,
    f1_score,
    precision_score,
    recall_score,
)
from seqeval.metrics.sequence_labeling import get_entities  # pyright: ignore[reportMissingImports]

warnings.simplefilter("ignore")
random.seed(0)
KINDS = {"BIO": "BI", "BIOES": "BIES"}


def tags(kinds: str, length: int) -> list[str]:
    """Random tags, orphans included."""
    choices = ["O", "O", *(f"{kind}-{name}" for kind in kinds for name in ("PER", "LOC"))]
    return [random.choice(choices) for _ in range(length)]


def main() -> None:
    """Writes the file."""
    cases = []
    for kinds in KINDS.values():
        for _ in range(12):
            lengths = [random.randint(1, 9) for _ in range(4)]
            true = [tags(kinds, length) for length in lengths]
            predicted = [[t if random.random() < 0.7 else random.choice(tags(kinds, 1)) for t in own] for own in true]
            report = classification_report(true, predicted, output_dict=True)
            cases.append(
                {
                    "true": true,
                    "predicted": predicted,
                    "spans": [[[name, start, end + 1] for name, start, end in get_entities(own)] for own in true],
                    "micro": [score(true, predicted) for score in (precision_score, recall_score, f1_score)],
                    "macro_f1": f1_score(true, predicted, average="macro"),
                    "types": {
                        name: [
                            float(row["precision"]),
                            float(row["recall"]),
                            float(row["f1-score"]),
                            int(row["support"]),
                        ]
                        for name, row in report.items()
                        if "avg" not in name
                    },
                }
            )
    (Path(__file__).parent / "spans.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
