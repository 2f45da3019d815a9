"""Lets `flax.serialization` save and restore dataclasses of arrays, which it does not know by itself.

`TrainState.create` and the averages call `register` for their states, so that Flax is imported where one is made.
"""

from dataclasses import fields, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


@cache
def register(dataclass: type) -> None:
    """Registers a dataclass that is a pytree; its strings and other static fields stay those of the target.

    Typed PRNG keys are saved as their data.
    """
    from flax import serialization

    def to_state_dict(state: Any) -> dict[str, Any]:
        values = {field.name: getattr(state, field.name) for field in fields(state)}
        return {name: serialization.to_state_dict(_key_data(value)) for name, value in values.items() if _saved(value)}

    def from_state_dict(target: Any, content: dict[str, Any]) -> Any:
        values = {field.name: getattr(target, field.name) for field in fields(target)}
        restored = {
            name: _restored(value, serialization.from_state_dict(_key_data(value), content[name], name))
            for name, value in values.items()
            if _saved(value)
        }
        return replace(target, **restored)

    serialization.register_serialization_state(dataclass, to_state_dict, from_state_dict, override=True)


def is_key(value: Any) -> bool:
    """Whether a leaf is an array of typed PRNG keys."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _saved(value: Any) -> bool:
    return not (isinstance(value, tuple) and value and all(isinstance(item, str) for item in value))


def _key_data(value: Any) -> Any:
    return jax.random.key_data(value) if is_key(value) else value


def _restored(before: Any, value: Any) -> Any:
    return jax.random.wrap_key_data(value, impl=jax.random.key_impl(before)) if is_key(before) else value
