"""A fine-tuned transformer encoder: its predictions and its folder, which `transformers` loads as well.

The training job evaluates with `encoder_outputs_fn`; `jaxft.load` loads a saved model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.base.files import file_names, replacing_files, write_json
from jaxft.base.sharding import by_rows, replicated
from jaxft.base.tensor_files import save_params
from jaxft.data.checksums import write_checksums
from jaxft.data.document import Task
from jaxft.data.examples import Text
from jaxft.data.pieces import LongTexts, Pieces, encode
from jaxft.errors import TextError
from jaxft.inference import predictor
from jaxft.inference.answers import as_answers, as_scores, describe_classes
from jaxft.inference.batches import piece_batches, prediction_batch_size
from jaxft.inference.open_encoder import open_encoder
from jaxft.models.encoder_config import EncoderConfig
from jaxft.models.encoder_kinds import ARCHITECTURES, head_poolings
from jaxft.models.encoders import Encoder
from jaxft.models.hugging_face import POOLING_FILE, POOLINGS, to_checkpoint
from jaxft.models.options import Pooling, Precision

ENCODER_KIND = "encoder"
"""The kind of a fine-tuned encoder in model.json."""
PROBLEMS: dict[Task, str] = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multilabel": "multi_label_classification",
}
"""Name of each task in config.json of `transformers`."""

OutputsFn = Callable[[Any, Mapping[str, Any]], jax.Array]


@dataclass(frozen=True)
class EncoderModel:
    """A fine-tuned encoder, ready to predict.

    Attributes:
        encoder: an encoder whose head has an output for each class or label, or one for a number.
        tokenizer: the tokenizer of its checkpoint.
        task: what it predicts.
        classes: names of the C classes or labels; none where it predicts a number.
        max_length: the most word pieces that it reads at once.
        pairs: whether it reads pairs of texts.
        batch_size: texts per step of prediction.
        thresholds: the least probability of each label that counts as yes; empty where it is 0.5 for all.
        long_texts: what becomes of a text with more than `max_length` pieces; outputs for its windows are averaged.
        text_columns: the columns of a table that were read as one text in training, if they were several.
    """

    marks_fields: bool = field(default=False, init=False)

    encoder: Encoder
    tokenizer: Any
    task: Task
    classes: tuple[str, ...]
    max_length: int
    pairs: bool = False
    batch_size: int = 64
    thresholds: tuple[float, ...] = ()
    long_texts: LongTexts = "cut"
    text_columns: tuple[str, ...] = ()

    @cached_property
    def _outputs(self) -> OutputsFn:
        return by_rows(encoder_outputs_fn(self.encoder))

    def scores(self, texts: Sequence[str | Text]) -> np.ndarray:
        """Scores texts: probabilities (N, C) of classes or labels, or numbers (N, 1), all float32, in their order.

        Raises:
            TextError: a text is single where the model reads pairs, or a pair where it reads single texts.
        """
        rows = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        for index, row in enumerate(rows):
            if self.pairs and len(row) != 2:
                raise TextError(
                    index,
                    "is not a pair, and the model reads pairs: add the second text, on the command line with --pair or "
                    "--pair-column",
                )
            if not self.pairs and len(row) != 1:
                raise TextError(
                    index,
                    "is a pair, and the model reads single texts: leave out the second text, on the command line "
                    "--pair or --pair-column",
                )
        if not rows:
            return np.zeros((0, max(1, len(self.classes))), np.float32)
        pieces = encode(self.tokenizer, rows, self.max_length, self.long_texts)
        # The widths do not depend on the texts, so that few shapes are compiled.
        widths = sorted({min(64 * 2**i, self.max_length) for i in range(self.max_length.bit_length())})
        batch_size = prediction_batch_size(len(pieces.lengths), self.batch_size)
        return self.scores_of_pieces(pieces, np.arange(len(rows)), batch_size, widths)

    def scores_of_pieces(self, pieces: Pieces, texts: np.ndarray, batch_size: int, widths: Sequence[int]) -> np.ndarray:
        """The scores of some of the texts, in the order of `texts`; see `piece_batches`."""
        batches = piece_batches(pieces, texts, np.zeros(len(pieces.texts), np.int32), batch_size, widths)
        outputs = batches.map(partial(self._outputs, replicated(self.encoder.params)))
        return as_scores(self.task, pieces.means(texts, outputs))

    def answers(self, texts: Sequence[str | Text]) -> list[dict[str, Any]]:
        """Answers each text, in their order; see `jaxft.inference.answers.as_answers`."""
        return as_answers(self.task, self.classes, self.scores(texts), self.thresholds)

    def predict(self, texts: Any) -> Any:
        """The class, number or list of labels of each text, or of one; see `jaxft.inference.predictor.Predictor`."""
        return predictor.predict(self, texts)

    def predict_proba(self, texts: Any) -> np.ndarray:
        """The probabilities (N, C) float32 of classes or labels, or (C,) for one text."""
        return predictor.predict_proba(self, texts)

    def __repr__(self) -> str:
        config = self.encoder.config
        sizes = f"{self.encoder.settings['model_type']} {config.hidden_size} x {config.num_layers}"
        return f"EncoderModel({describe_classes(self.task, self.classes)}; {sizes}, at most {self.max_length} pieces)"

    def save(self, folder: Path) -> None:
        """Writes the model's folder: a checkpoint of `transformers`, and model.json.

        `transformers` has no head on the maximum of the last layer, and one on its mean for ModernBERT alone: it loads
        other such models without the head.
        """
        folder.mkdir(parents=True, exist_ok=True)
        config, outputs = self.encoder.config, max(1, len(self.classes))
        names = self.classes or ("LABEL_0",)
        state = to_checkpoint(self.encoder.params, config.kind, config.pooling)
        save_params(folder / "model.safetensors", state, {"kind": ENCODER_KIND})
        settings = {
            **{name: value for name, value in self.encoder.settings.items() if name != "torch_dtype"},
            "dtype": "float32",
            "problem_type": PROBLEMS[self.task],
            "num_labels": outputs,
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
            "architectures": [_architecture(self.encoder.settings["model_type"], config)],
        }
        if config.kind == "modernbert" and config.head_reads_pooler:
            settings["classifier_pooling"] = config.pooling
        write_json(folder / "config.json", settings)
        files = ["config.json", "model.json", "model.safetensors"]
        with replacing_files(folder) as temporary:
            self.tokenizer.save_pretrained(str(temporary))
            files += file_names(temporary)
        if config.pooling != "cls":  # for those who start from this model
            files.append(POOLING_FILE)
            (folder / POOLING_FILE).parent.mkdir(exist_ok=True)
            write_json(folder / POOLING_FILE, {name: mode == config.pooling for name, mode in POOLINGS.items()})
        description = {
            "kind": ENCODER_KIND,
            "task": self.task,
            "classes": self.classes,
            "max_length": self.max_length,
            "pairs": self.pairs,
            "precision": config.precision,
            "pooling": config.pooling,
            "thresholds": self.thresholds,
            "long_texts": self.long_texts,
            "text_columns": self.text_columns,
        }
        write_json(folder / "model.json", description)
        write_checksums(folder, files)

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` writes; `description` is the content of model.json.

        Raises:
            KeyError, TypeError, ValueError: the description is not one of an encoder.
            InputError: the weights or the tokenizer are missing or damaged.
        """
        task, classes, pooling = description["task"], tuple(description["classes"]), description.get("pooling", "cls")
        precision, max_length = description["precision"], int(description["max_length"])
        if task not in PROBLEMS or precision not in get_args(Precision) or pooling not in get_args(Pooling):
            raise ValueError(f"the task {task!r} in {precision!r} with the pooling {pooling!r}")
        long_texts = description.get("long_texts", "cut")
        if long_texts not in get_args(LongTexts):
            raise ValueError(f"long texts {long_texts!r}")
        encoder, tokenizer = open_encoder(
            folder, max(1, len(classes)), precision=precision, pooling=pooling, draw_missing=False
        )
        if not 2 < max_length <= encoder.config.longest:
            raise ValueError(f"max_length {max_length}")
        return cls(
            encoder=encoder,
            tokenizer=tokenizer,
            task=task,
            classes=classes,
            max_length=max_length,
            long_texts=long_texts,
            pairs=bool(description["pairs"]),
            thresholds=_thresholds(description, classes),
            text_columns=tuple(map(str, description.get("text_columns", ()))),
        )


def _thresholds(description: Mapping[str, Any], classes: tuple[str, ...]) -> tuple[float, ...]:
    thresholds = tuple(map(float, description.get("thresholds", ())))
    if len(thresholds) not in (0, len(classes)) or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f"the thresholds {thresholds} of {len(classes)} labels")
    return thresholds


def _architecture(model_type: str, config: EncoderConfig) -> str:
    has_head = config.pooling in head_poolings(config.kind)
    return ARCHITECTURES[model_type] + ("ForSequenceClassification" if has_head else "Model")


def encoder_inputs(encoder: Encoder, batch: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of `Encoder.apply` after the parameters: ids, mask and types of a batch."""
    tokens, lengths = jnp.asarray(batch["tokens"]), jnp.asarray(batch["lengths"])
    valid = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]  # (B, T)
    return jnp.where(valid, tokens, encoder.config.pad_id), valid, batch.get("token_type_ids")


def encoder_outputs_fn(encoder: Encoder) -> OutputsFn:
    """The pure function `(params, batch) -> outputs (B, C)` of an encoder with a head, without dropout."""
    return lambda params, batch: encoder.apply(params, *encoder_inputs(encoder, batch))["logits"]
