"""Masks of a large dropout: the right share, nothing alike between places, rows or keys, and the same everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.models.dropout import dropout, kept


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_the_share_that_is_kept(p):
    mask = np.asarray(kept(jax.random.key(3), p, (512, 1024)))
    std = np.sqrt(p * (1 - p) / mask.size)
    assert abs(mask.mean() - (1 - p)) <= 5 * std
    for axis in (0, 1):
        assert abs(mask.mean(axis=axis) - (1 - p)).max() <= 6 * np.sqrt(p * (1 - p) / mask.shape[axis])


@pytest.mark.parametrize("shift", [1, 2, 32, 256, 1024])
def test_places_are_independent(shift):
    mask = np.asarray(kept(jax.random.key(4), 0.5, (1 << 20,))).astype(np.float64) - 0.5
    assert abs(4 * np.mean(mask[shift:] * mask[:-shift])) < 5 / np.sqrt(mask.size)


def test_keys_are_independent():
    keys = jax.random.split(jax.random.key(5), 12)
    masks = np.stack([np.asarray(kept(key, 0.5, (1 << 18,))) for key in keys]).astype(np.float64) - 0.5
    alike = 4 * masks @ masks.T / masks.shape[1]
    assert np.abs(alike - np.eye(len(keys))).max() < 5 / np.sqrt(masks.shape[1])


def test_a_compiled_mask_is_the_same():
    key = jax.random.key(6)
    np.testing.assert_array_equal(kept(key, 0.3, (7, 11)), jax.jit(lambda key: kept(key, 0.3, (7, 11)))(key))


def test_features_that_are_dropped_together():
    x = jnp.arange(1.0, 601.0).reshape(20, 10, 3)
    dropped = np.asarray(dropout(x, 0.4, jax.random.key(7), together=True))
    gone = (dropped == 0).all(axis=2)
    assert 0.3 < gone.mean() < 0.5
    np.testing.assert_allclose(dropped[~gone], np.asarray(x)[~gone] / 0.6, rtol=1e-6)
