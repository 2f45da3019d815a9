"""Reads and checks single values of config.json of an encoder."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jaxft.errors import InputError
from jaxft.models.activations import ACTIVATIONS

MOST_LAYERS = 1000
"""layers that are too many to be meant"""


class Sizes(Protocol):
    """What the configurations of all encoders have."""

    @property
    def vocab_size(self) -> int:
        """Rows of the word embeddings."""
        ...

    @property
    def hidden_size(self) -> int:
        """Features of a token."""
        ...

    @property
    def num_heads(self) -> int:
        """Heads of attention."""
        ...

    @property
    def pad_id(self) -> int:
        """The padding piece."""
        ...

    @property
    def layer_norm_eps(self) -> float:
        """What the norms add to a variance."""
        ...


def value_reader(settings: Mapping[str, Any], name: str, distilbert: bool = False) -> Callable[..., Any]:
    """Makes the function that reads and checks one value of config.json, by its key in BERT and in DistilBERT."""

    def get(
        bert_key: str,
        distilbert_key: str | None = None,
        default: Any = None,
        value_type: type = int,
        least: int = 0,
        below: int = 2**31,
    ) -> Any:
        key = distilbert_key if distilbert and distilbert_key else bert_key
        value = settings.get(key)
        value = default if value is None else value
        if value is None:
            raise InputError(f"{name} has a config.json without {key}: download it again")
        if not isinstance(value, str if value_type is str else value_type | int) or isinstance(value, bool):
            raise InputError(f"{name} has a config.json with {key} {value!r}: download it again")
        if not isinstance(value, str) and not least <= value < below:
            raise InputError(
                f"{name} has a config.json with {key} {value!r}: correct it to a number from {least}, below {below}"
            )
        return value

    return get


def flag_of(settings: Mapping[str, Any], name: str, key: str, default: bool = False) -> bool:
    """A value of config.json that is true or false.

    Args:
        settings: content of config.json.
        name: of the checkpoint, for errors.
        key: of the value.
        default: the value where there is none.

    Raises:
        InputError: it is neither.
    """
    value = settings.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise InputError(f"{name} has a config.json with {key} {value!r}: correct it to true or false")
    return value


def check_sizes(config: Sizes, name: str, epsilon_key: str) -> None:
    """Refuses sizes that do not fit each other, and an epsilon of 0.

    Args:
        config: of the encoder.
        name: of the checkpoint, for errors.
        epsilon_key: key of `config.layer_norm_eps` in config.json.

    Raises:
        InputError: naming the values.
    """
    if config.layer_norm_eps <= 0:
        raise InputError(
            f"{name} has a config.json with {epsilon_key} 0, which divides by 0: download config.json again"
        )
    if config.hidden_size % config.num_heads:
        raise InputError(
            f"{name} has a config.json with {config.num_heads} heads for {config.hidden_size} features: download it "
            "again"
        )
    if config.pad_id >= config.vocab_size:
        raise InputError(
            f"{name} has a config.json with pad_token_id {config.pad_id} and {config.vocab_size} pieces: correct it to "
            "the number of the padding piece"
        )


def check_activation(activation: str, name: str) -> None:
    """Refuses the name of an activation function that is not in `ACTIVATIONS`.

    Raises:
        InputError: naming those that are.
    """
    if activation not in ACTIVATIONS:
        raise InputError(
            f"{name} uses the activation {activation!r}: name a checkpoint with one of {', '.join(sorted(ACTIVATIONS))}"
        )
