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
def register(dataclass: type, static: tuple[str, ...] = ()) -> None:
    """Registers a dataclass that is a pytree; its static fields stay those of the target.

    Typed PRNG keys are saved as their data.
    """
    from flax import serialization

    def saved(state: Any) -> dict[str, Any]:
        return {field.name: getattr(state, field.name) for field in fields(state) if field.name not in static}

    def to_state_dict(state: Any) -> dict[str, Any]:
        return {
            name: serialization.to_state_dict(jax.tree.map(_key_data, value)) for name, value in saved(state).items()
        }

    def from_state_dict(target: Any, content: dict[str, Any]) -> Any:
        restored = {
            name: serialization.from_state_dict(jax.tree.map(_key_data, value), content[name], name)
            for name, value in saved(target).items()
        }
        return replace(target, **jax.tree.map(_restored, saved(target), restored))

    serialization.register_serialization_state(dataclass, to_state_dict, from_state_dict, override=True)


def is_key(value: Any) -> bool:
    """Whether a leaf is an array of typed PRNG keys."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _key_data(value: Any) -> Any:
    return jax.random.key_data(value) if is_key(value) else value


def _restored(before: Any, value: Any) -> Any:
    return jax.random.wrap_key_data(value, impl=jax.random.key_impl(before)) if is_key(before) else value
