"""Masks of dropout: the right share, nothing alike between places, rows, masks or keys, and the same everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.models.dropout import dropout, keep_masks, kept


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


@pytest.mark.parametrize("keys", ["split", "counted"])
def test_keys_are_independent(keys):
    keys = jax.random.split(jax.random.key(5), 12) if keys == "split" else [jax.random.key(i) for i in range(12)]
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


def test_masks_of_one_key_are_stretches_of_one_mask():
    key, shapes = jax.random.key(8), [(700, 1), (1, 30, 40), (40, 160)]
    masks = keep_masks(key, [(0.3, shape) for shape in shapes])
    assert [mask.shape for mask in masks] == shapes
    whole = kept(key, 0.3, (sum(mask.size for mask in masks),))
    np.testing.assert_array_equal(np.concatenate([mask.ravel() for mask in masks]) > 0, whole)


def test_two_masks_of_one_key_are_independent():
    first, second = (np.asarray(mask) - 1 for mask in keep_masks(jax.random.key(9), [(0.5, (1 << 18,))] * 2))
    assert abs(np.mean(first * second)) < 5 / np.sqrt(first.size)


@pytest.mark.parametrize(("p", "values"), [(0.0, [1]), (0.5, [0, 2]), (0.9, [0, 10])])
def test_a_mask_keeps_the_mean(p, values):
    (mask,) = keep_masks(jax.random.key(10), [(p, (1000, 1000))])
    np.testing.assert_allclose(np.unique(mask), values, rtol=1e-6)
    assert abs(float(mask.mean()) - 1) < 0.02


def test_a_small_probability_is_not_rounded_away():
    (mask,) = keep_masks(jax.random.key(11), [(1e-5, (1000, 1000))])
    assert 0 < np.sum(np.asarray(mask) == 0) < 40
