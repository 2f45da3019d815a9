"""A trained tagger of entities: its predictions and its folder.

The training job evaluates with `decode_tags`; `jaxft.load` loads a saved tagger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxft.base.files import file_names, replacing_files, write_json
from jaxft.base.sharding import by_rows, replicated
from jaxft.base.tensor_files import load_params, save_params
from jaxft.data.checksums import write_checksums
from jaxft.data.spans import Scheme, Span, read_spans, write_tags
from jaxft.data.tag_pieces import TagPieces, TokenIds, Unit, split_text, tag_pieces
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.answers import describe_classes, refuse_not_finite
from jaxft.inference.batches import prediction_batch_size, window_batches
from jaxft.inference.open_encoder import open_encoder
from jaxft.inference.predictor import as_rows
from jaxft.models.hugging_face import to_checkpoint
from jaxft.models.tagger import TaggerConfig, TaggerFns

TAGGER_KIND = "tagger"
"""The kind of a tagger in model.json."""
ENCODER = "encoder"
"""Name of the encoder's folder in the model's folder."""
WIDTHS = (16, 32, 64, 128, 256)
"""Widths in ids that windows are padded to for prediction: always the same, so that few shapes are compiled."""


@dataclass(frozen=True)
class EntityTagger:
    """A trained tagger, ready to find entities.

    Attributes:
        task, pairs: what it predicts, and whether it reads pairs of texts; the same for all.
        fns: the tagger's pure functions.
        params: the tagger's parameters.
        tokenizer: a `Vocabulary`, or the tokenizer of the encoder's checkpoint.
        unit: what a raw text is split into.
        scheme: the scheme of its tags.
        max_length: the most ids of a window; a longer sentence is read in several windows.
        batch_size: windows per step of prediction.
    """

    task: str = field(default="entities", init=False)
    pairs: bool = field(default=False, init=False)
    marks_fields: bool = field(default=False, init=False)
    text_columns: tuple[str, ...] = field(default=(), init=False)

    fns: TaggerFns
    params: Any
    tokenizer: Any
    unit: Unit
    scheme: Scheme
    max_length: int
    batch_size: int = 64

    @cached_property
    def _token_ids(self) -> TokenIds:
        return TokenIds(self.tokenizer)

    @cached_property
    def _decode(self) -> Any:
        return by_rows(self.fns.decode_scored)

    @cached_property
    def _decode_with_losses(self) -> Any:
        return by_rows(self.fns.decode_with_losses)

    @property
    def classes(self) -> tuple[str, ...]:
        """The types of entities."""
        return tuple(tag.removeprefix("B-") for tag in self.fns.config.tags if tag.startswith("B-"))

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """Predicts the tags of the tokens of sentences, in their order; a sentence may be empty."""
        decoded = self._decoded(self._decode, sentences)
        return [write_tags(read_spans(tags), len(tags), self.scheme) for tags, _ in decoded]

    def judge(
        self, sentences: Sequence[Sequence[str]], true: Sequence[Sequence[str]]
    ) -> list[tuple[dict[Span, float], float]]:
        """Predicts the entities of sentences with their scores, and measures the loss of the true tags.

        The loss of a sentence, in nats, is the negative log-likelihood of its true tags; without a random field it is
        the sum of the cross-entropies. Of a sentence in several windows each token counts once, in the window that also
        predicts its tag, and with a random field given the tags after it in that window. A type of entity that the
        model does not know counts as O.

        Args:
            sentences: tokens of each.
            true: the true tags of each, in any scheme.
        """
        decoded = self._decoded(self._decode_with_losses, sentences, true)
        return [(_scored_spans(tags, values), float(values[:, 1].sum())) for tags, values in decoded]

    def _decoded(
        self, decode: Any, sentences: Sequence[Sequence[str]], true: Sequence[Sequence[str]] | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """The tags in BIO of each sentence, and (T, ...) what `decode` gives with each: first its probability."""
        numbers = [number for number, tokens in enumerate(sentences) if tokens]
        result: list[tuple[list[str], np.ndarray]] = [([], np.zeros((0, 2))) for _ in sentences]
        if not numbers:
            return result
        nonempty, names = [sentences[number] for number in numbers], self.fns.config.tags
        true = None if true is None else [true[number] for number in numbers]
        pieces = tag_pieces(nonempty, true, names, self.scheme, self._token_ids, self.max_length)
        widths = sorted({min(width, self.max_length) for width in (*WIDTHS, self.max_length)})
        decoded = map_windows(decode, self.params, pieces, self.batch_size, widths)
        tags = pieces.merge_windows([window[:, 0] for window in decoded], names)
        values = pieces.merge([window[window[:, 0] >= 0, 1:].tolist() for window in decoded], [0.0])
        for number, sentence_tags, sentence_values in zip(numbers, tags, values, strict=True):
            result[number] = (sentence_tags, np.array(sentence_values))
        return result

    def entities(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Finds the entities of each text.

        Each is a mapping with `type`, `start` and `end` (characters, the end excluded), `text` and `score`, the least
        probability of the tags of its tokens.
        """
        token_places = [split_text(text, self.unit) for text in texts]
        sentences = [[text[a:b] for a, b in places] for text, places in zip(texts, token_places, strict=True)]
        entities = []
        decoded = self._decoded(self._decode, sentences)
        refuse_not_finite(np.array([[values.sum()] for _, values in decoded]))
        for text, places, (tags, values) in zip(texts, token_places, decoded, strict=True):
            found = []
            for (name, first, last), score in _scored_spans(tags, values).items():
                start, end = places[first][0], places[last - 1][1]
                found.append({"type": name, "start": start, "end": end, "text": text[start:end], "score": score})
            entities.append(found)
        return entities

    def answers(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Answers each text with a dict, as other models do, whose one entry is `entities`."""
        return [{"entities": entities} for entities in self.entities(texts)]

    def predict(self, texts: Any) -> Any:
        """The entities of each text, or of one; see `jaxft.inference.predictor.Predictor`."""
        rows, single = as_rows(texts)
        entities = self.entities(rows)
        return entities[0] if single else entities

    def predict_proba(self, texts: Any) -> np.ndarray:
        """Refuses, as `jaxft.inference.predictor.Predictor` says: each entity has a score of its own."""
        raise InputError("a tagger has no probabilities of a text: predict gives each entity with its score")

    def __repr__(self) -> str:
        encoder = self.fns.encoder
        reads = "tokens of its own" if encoder is None else encoder.settings["model_type"]
        return f"EntityTagger({describe_classes('entities', self.classes)}; {reads}, by {self.unit})"

    def save(self, folder: Path) -> None:
        """Writes the model's folder; its encoder, if there is one, is a checkpoint of `transformers` in it."""
        folder.mkdir(parents=True, exist_ok=True)
        config, encoder = self.fns.config, self.fns.encoder
        save_params(folder / "model.safetensors", self.params["tagger"], {"kind": TAGGER_KIND})
        files = ["model.json", "model.safetensors"]
        if encoder is None:
            self.tokenizer.save(folder / "vocabulary.json")
            files.append("vocabulary.json")
        else:
            (folder / ENCODER).mkdir(exist_ok=True)
            state = to_checkpoint(self.params["encoder"], encoder.config.kind)
            save_params(folder / ENCODER / "model.safetensors", state, {"kind": TAGGER_KIND})
            settings = {name: value for name, value in encoder.settings.items() if name != "torch_dtype"}
            write_json(folder / ENCODER / "config.json", {**settings, "dtype": "float32"})
            with replacing_files(folder / ENCODER) as temporary:
                self.tokenizer.save_pretrained(str(temporary))
                names = ["config.json", "model.safetensors", *file_names(temporary)]
            files += [f"{ENCODER}/{name}" for name in names]
        description = {
            "kind": TAGGER_KIND,
            "unit": self.unit,
            "scheme": self.scheme,
            "max_length": self.max_length,
            "encoder": encoder is not None,
            **asdict(config),
        }
        write_json(folder / "model.json", description)
        write_checksums(folder, files)

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` writes; `description` is the content of model.json.

        Raises:
            KeyError, TypeError, ValueError: the description is not one of a tagger.
            InputError: weights, vocabulary or tokenizer are missing or damaged.
        """
        names = ("features", "vocab_size", "lstm_size", "crf", "dropout", "precision")
        config = TaggerConfig(
            tuple(description["tags"]),
            **{name: description[name] for name in names},
            bigrams=int(description.get("bigrams", 0)),
        )
        if description["unit"] not in ("characters", "words"):
            raise ValueError(f"the unit {description['unit']!r}")
        params: dict[str, Any] = {"tagger": load_params(folder / "model.safetensors")}
        encoder = None
        if description["encoder"]:
            encoder, tokenizer = open_encoder(folder / ENCODER, new_head=True, precision=config.precision)
            params["encoder"] = encoder.params
        else:
            tokenizer = Vocabulary.load(folder / "vocabulary.json")
            if len(tokenizer) != config.vocab_size:
                raise InputError(f"{folder / 'vocabulary.json'} does not fit the model: train it again")
        wanted = jax.eval_shape(lambda: TaggerFns(config).init(0))["tagger"]
        shapes = jax.tree.map(np.shape, params["tagger"])
        if shapes != jax.tree.map(lambda leaf: leaf.shape, wanted):
            raise InputError(f"{folder / 'model.safetensors'} does not fit model.json: train it again")
        return cls(
            fns=TaggerFns(config, encoder),
            params=params,
            tokenizer=tokenizer,
            unit=description["unit"],
            scheme=description["scheme"],
            max_length=int(description["max_length"]),
        )


def _scored_spans(tags: Sequence[str], values: np.ndarray) -> dict[Span, float]:
    """The entities that tags mark, each with the least probability of its tags, the first column of `values`."""
    return {span: round(float(values[span[1] : span[2], 0].min()), 6) for span in read_spans(tags)}


def decode_tags(
    decode_fn: Any, params: Any, names: Sequence[str], pieces: TagPieces, batch_size: int, widths: Sequence[int]
) -> list[list[str]]:
    """Predicts the tags of every sentence of `pieces`, in BIO.

    Args:
        decode_fn: `TaggerFns.decode`, jitted by `jaxft.base.sharding.by_rows`.
        params: the tagger's parameters.
        names: names of the tags.
        pieces: the windows of the sentences.
        batch_size: the most windows per step.
        widths: ascending widths in ids that batches are padded to.
    """
    return pieces.merge_windows(map_windows(decode_fn, params, pieces, batch_size, widths), names)


def map_windows(
    function: Any, params: Any, pieces: TagPieces, batch_size: int, widths: Sequence[int]
) -> list[np.ndarray]:
    """What a function `(params, batch) -> (B, T, ...)` gives for the T ids of each window."""
    count = len(pieces.lengths)
    batches = window_batches(pieces, np.arange(count), prediction_batch_size(count, batch_size), widths)
    return batches.map_tokens(partial(function, replicated(params)))
