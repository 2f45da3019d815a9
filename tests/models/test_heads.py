"""The pooling head that starts as a linear layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxft.models.heads import PoolingHead, with_linear_head


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_head_answers_as_the_linear_layer_on_normalized_features(classes):
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(40, 12)) * np.geomspace(1e-2, 10, 12) + 5).astype(np.float32)
    features[:, 3] = 2.0  # no variance
    kernel, bias = rng.normal(size=(12, classes)).astype(np.float32), np.arange(classes, dtype=np.float32)
    seen = []

    def solve(normalized: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(normalized)
        return kernel, bias

    graphdef, params, statistics = nnx.split(
        PoolingHead(12, 20, classes, (0.1, 0.1), nnx.Rngs(0)), nnx.Param, nnx.BatchStat
    )
    plain = nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)
    filled = with_linear_head(plain[0], features, solve)
    assert jax.tree.map(np.shape, filled) == jax.tree.map(np.shape, plain)
    (normalized,) = seen
    np.testing.assert_allclose(np.delete(normalized, 3, axis=1).std(axis=0), 1, atol=0.1)
    logits = nnx.merge(graphdef, *filled)(jnp.asarray(features))
    np.testing.assert_allclose(logits, normalized @ kernel + bias, atol=1e-4)
    np.testing.assert_array_equal(
        filled[0]["linear_0"]["kernel"][:, 2 * classes :], plain[0]["linear_0"]["kernel"][:, 2 * classes :]
    )
