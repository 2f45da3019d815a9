"""Uses a finished model: `python -m jaxft.predict RUN --text "..."`, or `jaxft.load(RUN)` from Python.

A model is a folder with `model.safetensors`, `model.json` and `vocabulary.json`; a run keeps it in `RUN/model`. Nothing
else of the run, and no cache, is needed to use it. The training jobs call `class_logits` for their own evaluations.
"""

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from flax import nnx

from jaxft import checkpoint
from jaxft.data.download import cache_folder
from jaxft.data.streams import LengthBatches, length_widths
from jaxft.data.table import rows, text_field
from jaxft.data.text import tokenize
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError, run_job
from jaxft.models.awd_lstm import NO_DROPOUT, AWDLSTMConfig
from jaxft.models.heads import Classifier
from jaxft.report import read_json, write_json

TEXTS_AT_ONCE = 4096
"""texts of an input file that are read, sorted by length and classified together"""


@dataclass(frozen=True)
class TextClassifier:
    """A trained classifier, ready to predict.

    Attributes:
      config: sizes of the encoder.
      classes: names of the C classes.
      head_hidden, max_length, bptt: as in `jaxft.models.heads.Classifier`.
      vocabulary: words and their ids.
      params, statistics: pytrees of arrays.
      batch_size: documents per step.
    """

    config: AWDLSTMConfig
    classes: tuple[str, ...]
    head_hidden: int
    max_length: int
    bptt: int
    vocabulary: Vocabulary
    params: Any
    statistics: Any
    batch_size: int = 64

    @cached_property
    def logits(self) -> Any:
        """The jitted function `(params, statistics, batch) -> logits (B, C)`."""
        return jax.jit(class_logits_fn(self.graphdef))

    @cached_property
    def graphdef(self) -> nnx.GraphDef:
        """Structure of the module that `params` and `statistics` belong to."""
        model = nnx.eval_shape(
            lambda: Classifier(
                self.config,
                len(self.classes),
                NO_DROPOUT,
                nnx.Rngs(0),
                head_hidden=self.head_hidden,
                head_dropouts=(0.0, 0.0),
                max_length=self.max_length,
                bptt=self.bptt,
            )
        )
        return nnx.graphdef(model)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Class probabilities (N, C) float32 of the texts, in their order.

        Raises:
          InputError: a text is empty.
        """
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise InputError(f"text {number} is empty: leave it out or fill it in")
        documents = [self.vocabulary.encode(tokenize(text)) for text in texts]
        lengths = np.array([len(document) for document in documents], np.int64)
        if not len(lengths):
            return np.zeros((0, len(self.classes)), np.float32)
        batches = LengthBatches(
            ids=np.concatenate(documents),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            documents=np.arange(len(lengths)),
            labels=np.zeros(len(lengths), np.int32),
            batch_size=min(self.batch_size, 1 << (len(lengths) - 1).bit_length()),  # few shapes for few texts
            widths=length_widths(max(int(lengths.max()), self.max_length), self.max_length, self.bptt),
            pad=self.vocabulary.pad,
        )
        return np.asarray(jax.nn.softmax(class_logits(self.logits, self.params, self.statistics, batches), axis=1))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable class of each text, in their order."""
        return [self.classes[i] for i in self.probabilities(texts).argmax(axis=1)]

    def save(self, folder: Path) -> None:
        """Writes the model's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(folder / "vocabulary.json")
        description = {
            "kind": "ulmfit-classifier",
            "encoder": asdict(self.config),
            "classes": self.classes,
            "head_hidden": self.head_hidden,
            "max_length": self.max_length,
            "bptt": self.bptt,
        }
        write_json(folder / "model.json", description)
        tree = {"params": self.params, "statistics": self.statistics}
        checkpoint.save_params(folder / "model.safetensors", tree, {"kind": description["kind"]})


def load(run: str | os.PathLike[str]) -> TextClassifier:
    """The finished model of a run, ready to predict.

    Args:
      run: the run's folder, or the model's folder itself.

    Raises:
      InputError: there is no finished model, or it is damaged.
    """
    folder = Path(run)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    if not (folder / "model.json").exists():
        raise InputError(f"{run} holds no finished model: name the folder of a run that has ended")
    description = read_json(folder / "model.json")
    try:
        config, classes = AWDLSTMConfig(**description["encoder"]), tuple(description["classes"])
        sizes = {name: int(description[name]) for name in ("head_hidden", "max_length", "bptt")}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'model.json'} does not describe a classifier ({error}): train it again") from error
    tree = checkpoint.load_params(folder / "model.safetensors")
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    return TextClassifier(config, classes, **sizes, vocabulary=vocabulary, **tree)


def class_logits_fn(graphdef: nnx.GraphDef) -> Any:
    """The pure function `(params, statistics, batch) -> logits (B, C)` of a classifier, without dropout."""

    def logits(params: Any, statistics: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        return nnx.merge(graphdef, params, statistics)(batch["tokens"], batch["lengths"])

    return logits


def class_logits(logits: Any, params: Any, statistics: Any, batches: LengthBatches) -> np.ndarray:
    """Logits (N, C) float32 of all documents of `batches`, in their order; `logits` is a jitted `class_logits_fn`."""
    pending = [(p, logits(params, statistics, batches.evaluation_batch(p))) for p in batches.evaluation_batches()]
    result = np.zeros((len(batches.documents), pending[0][1].shape[1]), np.float32)
    for positions, values in pending:
        result[positions] = np.asarray(values)[: len(positions)]
    return result


@dataclass(frozen=True)
class Request:
    """Classifies one text, or a file of them, with the model of a finished run."""

    run: Annotated[Path, tyro.conf.Positional]
    """folder of the run"""
    text: str | None = None
    """one text; prints its label and the probability of every class"""
    input: Path | None = None
    """CSV, TSV or JSONL file with a column of texts"""
    output: Path | None = None
    """CSV file to write: the texts' labels and probabilities, in the order of --input; standard output by default"""
    text_column: str = "text"
    """column of the texts in --input"""


def _texts(path: Path, column: str) -> Iterator[str]:
    for where, fields in rows(path):
        yield text_field(fields, column, where)


def _predict_file(model: TextClassifier, source: Path, target: Path | None, column: str) -> None:
    texts = _texts(source, column)
    temporary = None if target is None else target.with_name(f".{target.name}.tmp")
    try:
        with (
            open(temporary, "w", newline="", encoding="utf-8")
            if temporary
            else os.fdopen(os.dup(sys.stdout.fileno()), "w", newline="", encoding="utf-8") as file
        ):
            writer = csv.writer(file)
            writer.writerow(["label", *(f"p({name})" for name in model.classes)])
            while chunk := list(islice(texts, TEXTS_AT_ONCE)):
                for row in model.probabilities(chunk):
                    writer.writerow([model.classes[row.argmax()], *(f"{p:.6f}" for p in row)])
        if temporary and target:
            os.replace(temporary, target)
    except OSError as error:
        raise InputError(
            f"cannot write {target or 'to standard output'} ({error.strerror}): name a writable file with --output"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    request = tyro.cli(Request, prog="python -m jaxft.predict", args=arguments)
    if (request.text is None) == (request.input is None):
        raise InputError("give either --text or --input")
    if request.output is not None and (request.text is not None or not request.output.name):
        raise InputError("--output names the file that the labels of --input are written to: give it a file's name")
    enable_compilation_cache()
    model = load(request.run)
    if request.text is not None:
        row = model.probabilities([request.text])[0]
        probabilities = {name: round(float(p), 6) for name, p in zip(model.classes, row, strict=True)}
        print(json.dumps({"label": model.classes[row.argmax()], "probabilities": probabilities}, ensure_ascii=False))
    elif request.input is not None:
        _predict_file(model, request.input, request.output, request.text_column)


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the cache folder, so that a second run starts at once; the jobs call it."""
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    run_job(main)
