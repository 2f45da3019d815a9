"""A fine-tuned transformer encoder: its folder, which `transformers` loads as well, and its answers.

The training job calls `outputs_fn` for its own evaluations; `jaxft.load` brings a finished model back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.data.examples import Task, Text
from jaxft.data.pieces import Pieces, encode, load_tokenizer
from jaxft.data.streams import LengthBatches
from jaxft.errors import InputError
from jaxft.files import write_json
from jaxft.inference.answers import answers, as_scores
from jaxft.models.bert import Encoder, open_checkpoint
from jaxft.models.bert_config import KINDS
from jaxft.models.hugging_face import to_checkpoint
from jaxft.models.options import Precision
from jaxft.tensor_files import save_params

ENCODER_KIND, ENCODER_ENSEMBLE_KIND = "encoder", "encoder-ensemble"
"""what a model's folder calls its content"""
PROBLEMS: dict[Task, str] = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multilabel": "multi_label_classification",
}
"""tasks as config.json of `transformers` calls them"""

OutputsFn = Callable[[Any, Mapping[str, Any]], jax.Array]


@dataclass(frozen=True)
class EncoderModel:
    """A fine-tuned encoder, ready to predict.

    Attributes:
        encoder: with a head of as many outputs as there are classes, or one for a number in its own unit.
        tokenizer: that of its checkpoint.
        task: what it answers.
        classes: names of the C classes or labels; none for a number.
        max_length: word pieces of a text that it reads at most.
        pairs: whether it reads pairs of texts.
        batch_size: texts per step.
    """

    encoder: Encoder
    tokenizer: Any
    task: Task
    classes: tuple[str, ...]
    max_length: int
    pairs: bool = False
    batch_size: int = 64

    @cached_property
    def _outputs(self) -> OutputsFn:
        return jax.jit(outputs_fn(self.encoder))

    def scores(self, texts: Sequence[str | Text]) -> np.ndarray:
        """(N, C) float32 probabilities of classes or labels, or (N, 1) numbers, of the texts in their order.

        Raises:
            InputError: a text is empty, or single where the model reads pairs.
        """
        rows = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        for number, row in enumerate(rows, 1):
            if len(row) != 1 + self.pairs:
                raise InputError(
                    f"text {number} is {'no' if self.pairs else 'a'} pair, unlike those of training: "
                    f"{'give' if self.pairs else 'leave out'} --pair or --pair-column"
                )
            if not all(text.strip() for text in row):
                raise InputError(f"text {number} is empty: leave it out or fill it in")
        if not rows:
            return np.zeros((0, max(1, len(self.classes))), np.float32)
        pieces = encode(self.tokenizer, rows, self.max_length)
        size = min(self.batch_size, 1 << (len(rows) - 1).bit_length())  # few shapes for few texts
        # widths that do not depend on the texts, so that few shapes are compiled for
        widths = sorted({min(64 * 2**i, self.max_length) for i in range(self.max_length.bit_length())})
        batches = length_batches(pieces, np.arange(len(rows)), np.zeros(len(rows), np.int32), size, widths)
        return self.scores_of_batches(batches)

    def scores_of_batches(self, batches: LengthBatches) -> np.ndarray:
        """The scores of all documents of `batches`, in their order."""
        return as_scores(self.task, batches.map(partial(self._outputs, self.encoder.params)))

    def answers(self, texts: Sequence[str | Text]) -> list[dict[str, Any]]:
        """What it says of each text, in their order; see `jaxft.inference.answers`."""
        return answers(self.task, self.classes, self.scores(texts))

    def predict(self, texts: Sequence[str | Text]) -> list[Any]:
        """The class, the number or the list of labels of each text, in their order."""
        return [next(iter(answer.values())) for answer in self.answers(texts)]

    def save(self, folder: Path) -> None:
        """Writes the model's folder, a checkpoint of `transformers` with a model.json beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        config, outputs = self.encoder.config, max(1, len(self.classes))
        names = self.classes or ("LABEL_0",)
        state = to_checkpoint(self.encoder.params, config.kind)
        save_params(folder / "model.safetensors", state, {"kind": ENCODER_KIND})
        settings = {
            **{name: value for name, value in self.encoder.settings.items() if name != "torch_dtype"},
            "dtype": "float32",
            "problem_type": PROBLEMS[self.task],
            "num_labels": outputs,
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
            "architectures": [_architecture(self.encoder.settings["model_type"])],
        }
        write_json(folder / "config.json", settings)
        self.tokenizer.save_pretrained(str(folder))
        description = {
            "kind": ENCODER_KIND,
            "task": self.task,
            "classes": self.classes,
            "max_length": self.max_length,
            "pairs": self.pairs,
            "precision": config.precision,
        }
        write_json(folder / "model.json", description)

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` wrote; `description` is the content of model.json.

        Raises:
            KeyError, TypeError, ValueError: the description is not one of an encoder.
            InputError: the weights or the tokenizer are missing or damaged.
        """
        task, classes = description["task"], tuple(description["classes"])
        precision, max_length = description["precision"], int(description["max_length"])
        encoder = open_checkpoint(folder, max(1, len(classes)), precision=precision)
        if task not in PROBLEMS or precision not in get_args(Precision):
            raise ValueError(f"the task {task!r} in {precision!r}")
        if not 2 < max_length <= encoder.config.longest:
            raise ValueError(f"max_length {max_length}")
        return cls(
            encoder=encoder,
            tokenizer=load_tokenizer(folder),
            task=task,
            classes=classes,
            max_length=max_length,
            pairs=bool(description["pairs"]),
        )


@dataclass(frozen=True)
class EncoderEnsemble:
    """Encoders of the same task whose scores are averaged, as the models of several folds are.

    Attributes:
        members: one or more.
    """

    members: tuple[EncoderModel, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes or labels."""
        return self.members[0].classes

    @property
    def pairs(self) -> bool:
        """Whether they read pairs of texts."""
        return self.members[0].pairs

    def scores(self, texts: Sequence[str | Text]) -> np.ndarray:
        """The mean of the members' scores; raises as they do."""
        return np.mean([member.scores(texts) for member in self.members], axis=0)

    def answers(self, texts: Sequence[str | Text]) -> list[dict[str, Any]]:
        """What they say together of each text, in their order; see `jaxft.inference.answers`."""
        return answers(self.members[0].task, self.classes, self.scores(texts))

    def predict(self, texts: Sequence[str | Text]) -> list[Any]:
        """The class, the number or the list of labels of each text, in their order."""
        return [next(iter(answer.values())) for answer in self.answers(texts)]

    def save(self, folder: Path) -> None:
        """Writes the model's folder, with a folder for each member in it."""
        names = [f"fold_{number}" for number in range(1, len(self.members) + 1)]
        for name, member in zip(names, self.members, strict=True):
            member.save(folder / name)
        write_json(folder / "model.json", {"kind": ENCODER_ENSEMBLE_KIND, "members": names})


def _architecture(model_type: str) -> str:
    names = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}
    names |= {"distilbert": "DistilBert", "electra": "Electra"}
    assert names.keys() == KINDS.keys()
    return f"{names[model_type]}ForSequenceClassification"


def length_batches(
    pieces: Pieces, documents: np.ndarray, labels: np.ndarray, batch_size: int, widths: Sequence[int]
) -> LengthBatches:
    """Batches of some of the texts, padded on the right; what the padding is filled with does not matter."""
    columns = {} if pieces.types is None else {"types": (pieces.types, 0)}
    return LengthBatches(pieces.ids, pieces.offsets, documents, labels, batch_size, tuple(widths), 0, "right", columns)


def arguments(encoder: Encoder, batch: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of `Encoder.apply` after the parameters."""
    tokens, lengths = jnp.asarray(batch["tokens"]), jnp.asarray(batch["lengths"])
    valid = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]
    return jnp.where(valid, tokens, encoder.config.pad_id), valid, batch.get("types")


def outputs_fn(encoder: Encoder) -> OutputsFn:
    """The pure function `(params, batch) -> (B, C)` of an encoder with a head, without dropout."""
    return lambda params, batch: encoder.apply(params, *arguments(encoder, batch))["logits"]
