"""The peer of few_labels.py: SetFit on the same rows; prints its accuracy on the test texts.

python tests/benchmarks/setfit_labels.py ROWS.csv MODEL SEED
"""

# pyright: reportMissingImports=false

import csv
import sys
import tempfile

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

BATCH, PAIRS = 16, 20
"""sentence pairs of a step; pairs of each text with texts of its class, and as many with others"""


def main() -> None:
    """Trains on the rows of the split train and scores those of test."""
    path, checkpoint, seed = sys.argv[1:]
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    model = SetFitModel.from_pretrained(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            batch_size=BATCH,
            num_epochs=1,
            num_iterations=PAIRS,
            seed=int(seed),
            report_to="none",
            output_dir=folder,
            save_strategy="no",
        )
        columns = {"text": [row["text"] for row in train], "label": [names.index(row["label"]) for row in train]}
        Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(columns)).train()
    predicted = model.predict([row["text"] for row in test], batch_size=32)
    right = sum(names[int(number)] == row["label"] for number, row in zip(predicted, test, strict=True))
    print(f"accuracy {right / len(test):.4f}")


if __name__ == "__main__":
    main()
