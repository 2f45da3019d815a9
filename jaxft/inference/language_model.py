"""A trained language model: its folder, and the texts that it writes. `jaxft.load` brings it back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxft import tensor_files
from jaxft.data.detokenize import detokenize
from jaxft.data.document import Direction
from jaxft.data.text import BOS, EOS, FLD, PAD, SPECIALS, UNK, tokenize
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.files import write_json
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel, initial_carry
from jaxft.models.options import NO_DROPOUT

GENERATOR_KIND = "language-model"
"""what a model's folder calls its content"""


@dataclass(frozen=True)
class TextGenerator:
    """A trained language model, ready to write, or for another job to start from.

    Attributes:
        config: sizes of the encoder.
        vocabulary: words and their ids.
        params: pytree of arrays, as `jaxft.models.awd_lstm.LanguageModel` has them.
        direction: in which it reads and writes.
        pretokenized: whether its words are whatever stands between two spaces, as in WikiText, instead of our tokens.
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
        """Continues a text; a backward model puts words before it.

        Args:
            prompt: how the text begins, or ends; may be empty.
            words: to write at most; a text that the model brings to its end is shorter.
            temperature: 1 draws from the model's own distribution, less keeps to likely words, 0 takes the likeliest.
            seed: of the draws.

        Returns:
            The prompt with the words that were written.

        Raises:
            InputError: `words` not from 1 to 10,000, a temperature not from 0 to 100, or a seed that is no int32.
        """
        for flag, value, low, high in (
            ("--words", words, 1, 10_000),
            ("--temperature", temperature, 0, 100),
            ("--seed", seed, 0, 2**31 - 1),
        ):
            if not low <= value <= high:
                raise InputError(f"{flag} {value} is out of its range: give a number from {low} to {high:,}")
        forward = self.direction == "forward"
        tokens = prompt.split() if self.pretokenized else tokenize(prompt)[0 if forward else 1 :]
        read = tokens if forward else tokens[::-1]
        ids = self.vocabulary.encode(read or [BOS])
        # Marks such as xxmaj are no words, so that some more are drawn.
        drawn = self._sample(
            self.params,
            jnp.asarray(ids)[None, :],
            jax.random.key(seed),
            jnp.float32(temperature),
            jnp.asarray(np.isin(self.vocabulary.tokens, [UNK, PAD, FLD])),
            steps=2 * words,
        )
        written: list[str] = []
        for token in self.vocabulary.decode(np.asarray(drawn)):
            if token in (BOS, EOS) or sum(word not in SPECIALS for word in written) == words:
                break
            written.append(token)
        whole = [*tokens, *written] if forward else [*written[::-1], *tokens]
        return " ".join(whole) if self.pretokenized else detokenize(whole)

    def save(self, folder: Path) -> None:
        """Writes the model's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(folder / "vocabulary.json")
        description = {
            "kind": GENERATOR_KIND,
            "encoder": asdict(self.config),
            "direction": self.direction,
            "pretokenized": self.pretokenized,
        }
        write_json(folder / "model.json", description)
        tensor_files.save_params(folder / "model.safetensors", self.params, {"kind": GENERATOR_KIND})

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` wrote; `description` is the content of model.json.

        Raises:
            KeyError, TypeError, ValueError: the description is not one of a language model.
            InputError: the weights or the vocabulary are missing or damaged.
        """
        return cls(
            config=AWDLSTMConfig(**description["encoder"]),
            vocabulary=Vocabulary.load(folder / "vocabulary.json"),
            params=tensor_files.load_params(folder / "model.safetensors"),
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
    """`steps` tokens (steps,) int32 after the prompt (1, T), each drawn from what the model gives after the last."""
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
