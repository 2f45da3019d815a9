"""A finished tagger: its folder, and the entities that it finds in texts.

The training job decodes with it for its own evaluations; `jaxft.load` brings a finished model back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxft.data.pieces import load_tokenizer
from jaxft.data.spans import Scheme, read_spans, write_tags
from jaxft.data.streams import LengthBatches
from jaxft.data.tag_pieces import PieceMaker, TagPieces, Unit, split_text, tag_pieces
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.files import write_json
from jaxft.models.bert import open_checkpoint
from jaxft.models.hugging_face import to_checkpoint
from jaxft.models.tagger import TaggerConfig, TaggerFns
from jaxft.tensor_files import load_params, save_params

TAGGER_KIND = "tagger"
"""what a model's folder calls its content"""
ENCODER = "encoder"
"""folder of the encoder, in the model's own"""
WIDTHS = (16, 32, 64, 128, 256)
"""widths of sentences that are padded for prediction, which do not depend on them, so that few shapes are compiled"""


@dataclass(frozen=True)
class EntityTagger:
    """A tagger, ready to find entities.

    Attributes:
        fns: its pure functions.
        params: its parameters.
        source: a `Vocabulary`, or the tokenizer of the encoder's checkpoint.
        unit: what a raw text is split into.
        scheme: of its tags.
        max_length: ids that it reads at once.
        batch_size: windows per step.
    """

    fns: TaggerFns
    params: Any
    source: Any
    unit: Unit
    scheme: Scheme
    max_length: int
    batch_size: int = 64

    @cached_property
    def _maker(self) -> PieceMaker:
        return PieceMaker(self.source)

    @cached_property
    def _decode(self) -> Any:
        return jax.jit(self.fns.decode)

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The tags of the tokens of sentences, in their order; a sentence may be empty."""
        full = [number for number, tokens in enumerate(sentences) if tokens]
        result: list[list[str]] = [[] for _ in sentences]
        if full:
            own = [sentences[number] for number in full]
            pieces = tag_pieces(own, None, self.fns.config.tags, self.scheme, self._maker, self.max_length)
            widths = sorted({min(width, self.max_length) for width in (*WIDTHS, self.max_length)})
            found = tags_of(self._decode, self.params, self.fns.config.tags, pieces, self.batch_size, widths)
            for number, tags in zip(full, found, strict=True):
                result[number] = write_tags(read_spans(tags), len(tags), self.scheme)
        return result

    def entities(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The entities of each text: `type`, `start` and `end` (characters, the end excluded) and `text`."""
        places = [split_text(text, self.unit) for text in texts]
        sentences = [[text[a:b] for a, b in own] for text, own in zip(texts, places, strict=True)]
        found = []
        for text, own, tags in zip(texts, places, self.tag(sentences), strict=True):
            spans = [(name, own[first][0], own[last - 1][1]) for name, first, last in read_spans(tags)]
            found.append([{"type": n, "start": a, "end": b, "text": text[a:b]} for n, a, b in spans])
        return found

    def answers(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The same, each in a dict as other models answer."""
        return [{"entities": entities} for entities in self.entities(texts)]

    def predict(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The same as `entities`."""
        return self.entities(texts)

    def save(self, folder: Path) -> None:
        """Writes the model's folder; an encoder is a checkpoint of `transformers` in it."""
        folder.mkdir(parents=True, exist_ok=True)
        config, encoder = self.fns.config, self.fns.encoder
        save_params(folder / "model.safetensors", self.params["tagger"], {"kind": TAGGER_KIND})
        if encoder is None:
            self.source.save(folder / "vocabulary.json")
        else:
            (folder / ENCODER).mkdir(exist_ok=True)
            state = to_checkpoint(self.params["encoder"], encoder.config.kind)
            save_params(folder / ENCODER / "model.safetensors", state, {"kind": TAGGER_KIND})
            settings = {name: value for name, value in encoder.settings.items() if name != "torch_dtype"}
            write_json(folder / ENCODER / "config.json", {**settings, "dtype": "float32"})
            self.source.save_pretrained(str(folder / ENCODER))
        own = {"unit": self.unit, "scheme": self.scheme, "max_length": self.max_length, "encoder": encoder is not None}
        write_json(folder / "model.json", {"kind": TAGGER_KIND, **own, **asdict(config)})

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` wrote; `description` is the content of model.json.

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
        encoder, source = None, None
        if description["encoder"]:
            encoder = open_checkpoint(folder / ENCODER, precision=config.precision)
            params["encoder"], source = encoder.params, load_tokenizer(folder / ENCODER)
        else:
            source = Vocabulary.load(folder / "vocabulary.json")
            if len(source) != config.vocab_size:
                raise InputError(f"{folder / 'vocabulary.json'} does not fit the model: train it again")
        wanted = jax.eval_shape(lambda: TaggerFns(config).init(0))["tagger"]
        shapes = jax.tree.map(np.shape, params["tagger"])
        if shapes != jax.tree.map(lambda leaf: leaf.shape, wanted):
            raise InputError(f"{folder / 'model.safetensors'} does not fit model.json: train it again")
        return cls(
            fns=TaggerFns(config, encoder),
            params=params,
            source=source,
            unit=description["unit"],
            scheme=description["scheme"],
            max_length=int(description["max_length"]),
        )


def tag_batches(pieces: TagPieces, windows: np.ndarray, batch_size: int, widths: Sequence[int]) -> LengthBatches:
    """Batches of some of the windows, padded on the right; what the padding is filled with does not matter."""
    labels = np.zeros(len(pieces.lengths), np.int32)
    columns = {"tags": (pieces.tags, -1)}
    return LengthBatches(pieces.ids, pieces.offsets, windows, labels, batch_size, tuple(widths), 0, "right", columns)


def tags_of(
    decode: Any, params: Any, names: Sequence[str], pieces: TagPieces, batch_size: int, widths: Sequence[int]
) -> list[list[str]]:
    """The tags of every sentence of `pieces`, in BIO, as `decode(params, batch)` finds them."""
    count = len(pieces.lengths)
    size = min(batch_size, 1 << (count - 1).bit_length())  # few shapes for few sentences
    batches = tag_batches(pieces, np.arange(count), size, widths)
    return pieces.merged(batches.map_tokens(partial(decode, params)), names)
