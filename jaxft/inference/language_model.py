"""A trained language model: the texts that it generates and its folder. `jaxft.load` loads a saved one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxft.base.files import write_json
from jaxft.base.tensor_files import load_params, save_params
from jaxft.data.checksums import write_checksums
from jaxft.data.document import Direction
from jaxft.data.text import BOS, EOS, FLD, PAD, SPECIALS, UNK
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel, initial_carry
from jaxft.models.options import NO_DROPOUT

LANGUAGE_MODEL_KIND = "language-model"
"""The kind of a language model in model.json."""


@dataclass(frozen=True)
class TextLanguageModel:
    """A trained language model, ready to generate text, or for another job to start from.

    Attributes:
        config: sizes of the encoder.
        vocabulary: tokens and their ids.
        params: pytree of arrays, as `jaxft.models.awd_lstm.LanguageModel` has them.
        direction: the direction in which it reads and generates.
        pretokenized: whether spaces alone separate its tokens, as in WikiText, instead of the vocabulary's tokenizer.
    """

    config: AWDLSTMConfig
    vocabulary: Vocabulary
    params: Any
    direction: Direction = "forward"
    pretokenized: bool = False

    @cached_property
    def graphdef(self) -> nnx.GraphDef:
        """Structure of the module that `params` belongs to."""
        return nnx.graphdef(nnx.eval_shape(lambda: LanguageModel(self.config, NO_DROPOUT, nnx.Rngs(0))))

    @cached_property
    def _sample(self) -> Any:
        return jax.jit(partial(_sample, self.graphdef), static_argnames="steps")

    def generate(self, prompt: str, words: int = 50, temperature: float = 0.8, seed: int = 0) -> str:
        """Continues a text; a backward model adds words before it.

        Args:
            prompt: the beginning of the text, or its end for a backward model; may be empty.
            words: the most words, or subwords, to add; fewer are added where the model ends the text.
            temperature: divides the logits: 1 samples from the model's distribution, lower values prefer likely words,
                0 takes the likeliest.
            seed: seed of the sampling.

        Returns:
            The prompt with the words that the model adds.

        Raises:
            InputError: `words` is not from 1 to 10,000, `temperature` not from 0 to 100, or `seed` not from 0 to
                2**31 - 1.
        """
        for flag, value, low, high in (
            ("--words", words, 1, 10_000),
            ("--temperature", temperature, 0, 100),
            ("--seed", seed, 0, 2**31 - 1),
        ):
            if not low <= value <= high:
                raise InputError(f"{flag} {value} is out of range: give a number from {low} to {high:,}")
        forward = self.direction == "forward"
        tokens = prompt.split() if self.pretokenized else self.vocabulary.tokenize(prompt)[0 if forward else 1 :]
        read = tokens if forward else tokens[::-1]
        ids = self.vocabulary.encode(read or [BOS])
        # Tokens such as xxmaj are no words, so that more tokens than words are sampled.
        sampled = self._sample(
            self.params,
            jnp.asarray(ids)[None, :],
            jax.random.key(seed),
            jnp.float32(temperature),
            jnp.asarray(np.isin(self.vocabulary.tokens, [UNK, PAD, FLD])),
            steps=2 * words,
        )
        added: list[str] = []
        for token in self.vocabulary.decode(np.asarray(sampled)):
            if token in (BOS, EOS) or sum(word not in SPECIALS for word in added) == words:
                break
            added.append(token)
        whole = [*tokens, *added] if forward else [*added[::-1], *tokens]
        return " ".join(whole) if self.pretokenized else self.vocabulary.detokenize(whole)

    def __repr__(self) -> str:
        sizes = f"AWD-LSTM {self.config.embedding_size}/{self.config.hidden_size} x {self.config.num_layers}"
        return f"TextLanguageModel({sizes}, {self.direction}; {len(self.vocabulary):,} tokens)"

    def save(self, folder: Path) -> None:
        """Writes the model's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(folder / "vocabulary.json")
        description = {
            "kind": LANGUAGE_MODEL_KIND,
            "encoder": asdict(self.config),
            "direction": self.direction,
            "pretokenized": self.pretokenized,
        }
        write_json(folder / "model.json", description)
        save_params(folder / "model.safetensors", self.params, {"kind": LANGUAGE_MODEL_KIND})
        write_checksums(folder, ["model.json", "model.safetensors", "vocabulary.json"])

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` writes; `description` is the content of model.json.

        Raises:
            KeyError, TypeError, ValueError: the description is not one of a language model.
            InputError: the weights or the vocabulary are missing or damaged.
        """
        return cls(
            config=AWDLSTMConfig(**description["encoder"]),
            vocabulary=Vocabulary.load(folder / "vocabulary.json"),
            params=load_params(folder / "model.safetensors"),
            direction=description["direction"],
            pretokenized=description["pretokenized"],
        )


def _sample(
    graphdef: nnx.GraphDef,
    params: Any,
    prompt: jax.Array,
    key: jax.Array,
    temperature: jax.Array,
    banned: jax.Array,
    steps: int,
) -> jax.Array:
    """Samples tokens (steps,) int32 after the prompt (1, T), each from the distribution after the one before."""
    model: LanguageModel = nnx.merge(graphdef, params)

    def step(state: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        logits, carry = state
        logits = jnp.where(banned, -jnp.inf, logits)
        noise = jax.random.gumbel(key, logits.shape)
        token = jnp.argmax(logits + temperature * noise).astype(jnp.int32)  # the softmax of logits / temperature
        following, carry = model(token[None, None], carry)
        return (following[0, -1], carry), token

    logits, carry = model(prompt, initial_carry(model.encoder.config, 1))
    return jax.lax.scan(step, (logits[0, -1], carry), jax.random.split(key, steps))[1]
