"""The CRF against an enumeration of all sequences, and against values of torchcrf."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.models import crf as crf_functions
from jaxft.models.crf import IMPOSSIBLE, constrain, init_crf

GOLDEN = Path(__file__).parents[1] / "golden" / "crf.json"

log_likelihood, viterbi = jax.jit(crf_functions.log_likelihood), jax.jit(crf_functions.viterbi)


@jax.jit
def gradients_of_likelihood(crf, emissions, tags, mask) -> tuple:
    """The gradients of the summed log-likelihood with respect to the CRF and the emissions."""
    return jax.grad(lambda crf, e: log_likelihood(crf, e, tags, mask).sum(), argnums=(0, 1))(crf, emissions)


def random_crf(rng: np.random.Generator, tags: int, scale: float = 1.0) -> dict[str, jax.Array]:
    shapes = {"transitions": (tags, tags), "start": (tags,), "end": (tags,)}
    return {name: jnp.array(scale * rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def enumerate_scores(crf, emissions: np.ndarray) -> dict[tuple[int, ...], float]:
    """The score of every sequence over unpadded emissions (T, K), in float64."""
    transitions, start, end = (np.asarray(crf[name], np.float64) for name in ("transitions", "start", "end"))
    scores = {}
    for path in itertools.product(range(emissions.shape[1]), repeat=len(emissions)):
        steps = sum(transitions[a, b] for a, b in itertools.pairwise(path))
        scores[path] = start[path[0]] + steps + sum(emissions[t, tag] for t, tag in enumerate(path)) + end[path[-1]]
    return scores


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3), left=st.booleans())
def test_equals_an_enumeration_of_all_sequences(seed: int, lengths: list[int], left: bool):
    rng = np.random.default_rng(seed)
    batch, width, count = len(lengths), 5, 3
    crf, emissions = random_crf(rng, count), rng.normal(size=(batch, width, count)).astype(np.float32)
    columns, sizes = np.arange(width)[None, :], np.array(lengths)[:, None]
    mask = columns >= width - sizes if left else columns < sizes
    tags = np.where(mask, rng.integers(0, count, (batch, width)), -1)
    likelihood, best = log_likelihood(crf, emissions, tags, mask), np.asarray(viterbi(crf, emissions, mask))
    for i in range(batch):
        scores = enumerate_scores(crf, emissions[i][mask[i]])
        total = np.logaddexp.reduce(list(scores.values()))
        np.testing.assert_allclose(likelihood[i], scores[tuple(tags[i][mask[i]])] - total, rtol=1e-4, atol=1e-5)
        assert scores[tuple(best[i][mask[i]])] == pytest.approx(max(scores.values()), abs=1e-5)
        assert (best[i][~mask[i]] == -1).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_likelihoods_of_tags_sum_to_that_of_their_sequence(seed: int):
    rng = np.random.default_rng(seed)
    crf, emissions = random_crf(rng, 3), rng.normal(size=(2, 6, 3)).astype(np.float32)
    mask = rng.random((2, 6)) < 0.6
    tags = np.where(mask, rng.integers(0, 3, (2, 6)), -1)
    each = np.asarray(jax.jit(crf_functions.tag_log_likelihoods)(crf, emissions, tags, mask))
    np.testing.assert_allclose(each.sum(axis=1), log_likelihood(crf, emissions, tags, mask), rtol=1e-4, atol=1e-5)
    assert not each[~mask].any()
    assert (each <= 0).all()


def test_equals_torchcrf():
    golden = json.loads(GOLDEN.read_text())
    crf = {name: jnp.array(golden[name], jnp.float32) for name in ("transitions", "start", "end")}
    emissions, tags, mask = jnp.array(golden["emissions"]), jnp.array(golden["tags"]), jnp.array(golden["mask"])
    np.testing.assert_allclose(log_likelihood(crf, emissions, tags, mask), golden["log_likelihood"], rtol=1e-5)
    decoded = [row[row >= 0].tolist() for row in np.asarray(viterbi(crf, emissions, mask))]
    assert decoded == golden["decoded"]
    gradients = gradients_of_likelihood(crf, emissions, tags, mask)
    for name in crf:
        np.testing.assert_allclose(gradients[0][name], golden[f"gradient_{name}"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients[1], golden["gradient_emissions"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 6])
@pytest.mark.parametrize("constrained", [False, True])
def test_gradients_are_finite_at_every_length(length: int, constrained: bool):
    crf = init_crf(5, jax.random.key(0))
    if constrained:
        crf = constrain(crf, ["O", "B-X", "I-X", "B-Y", "I-Y"])
    emissions = jax.random.normal(jax.random.key(1), (2, 6, 5))
    mask = jnp.arange(6)[None, :] < jnp.array([length, 6])[:, None]
    tags = jnp.zeros((2, 6), jnp.int32)
    gradients = gradients_of_likelihood(crf, emissions, tags, mask)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
    assert not np.any(np.asarray(gradients[1])[0, length:])  # padding has no gradient


def test_an_empty_sequence_is_certain_and_has_no_tags():
    crf, mask = init_crf(3, jax.random.key(0)), jnp.zeros((1, 4), bool)
    assert log_likelihood(crf, jnp.ones((1, 4, 3)), jnp.full((1, 4), -1), mask).tolist() == [0.0]
    assert viterbi(crf, jnp.ones((1, 4, 3)), mask).tolist() == [[-1] * 4]


def test_neither_padding_nor_batch_mates_change_a_sequence():
    rng = np.random.default_rng(0)
    crf, emissions = random_crf(rng, 4), rng.normal(size=(3, 7, 4)).astype(np.float32)
    mask = np.arange(7)[None, :] < np.array([7, 4, 2])[:, None]
    tags = rng.integers(0, 4, (3, 7))
    changed = np.where(mask[:, :, None], emissions, 1e3).astype(np.float32)
    np.testing.assert_array_equal(log_likelihood(crf, emissions, tags, mask), log_likelihood(crf, changed, tags, mask))
    np.testing.assert_array_equal(viterbi(crf, emissions, mask), viterbi(crf, changed, mask))
    alone = log_likelihood(crf, emissions[1:2, :4], tags[1:2, :4], mask[1:2, :4])
    np.testing.assert_allclose(alone, log_likelihood(crf, emissions, tags, mask)[1:2], rtol=1e-6)


def test_bfloat16_emissions_and_large_scores_are_summed_in_float32():
    rng = np.random.default_rng(0)
    crf = random_crf(rng, 4, scale=300.0)
    emissions = jnp.asarray(300 * rng.normal(size=(2, 40, 4)), jnp.bfloat16)
    mask, best = jnp.ones((2, 40), bool), viterbi(crf, emissions, jnp.ones((2, 40), bool))
    likelihood = log_likelihood(crf, emissions, best, mask)
    assert likelihood.dtype == jnp.float32
    np.testing.assert_allclose(likelihood, log_likelihood(crf, emissions.astype(jnp.float32), best, mask))
    assert (np.asarray(likelihood) <= 0.01).all()  # rounding of sums of 10^4
    assert (np.asarray(likelihood) > -1.0).all()  # with such scores the best sequence is nearly certain


@pytest.mark.parametrize(
    ("tags", "allowed"),
    [
        (["O", "B-X", "I-X", "B-Y", "I-Y"], {"O": "O B-X B-Y", "B-X": "O B-X I-X B-Y", "I-Y": "O B-X B-Y I-Y"}),
        (["O", "B-X", "I-X", "E-X", "S-X"], {"O": "O B-X S-X", "B-X": "I-X E-X", "E-X": "O B-X S-X", "I-X": "I-X E-X"}),
    ],
)
def test_a_scheme_allows_what_it_should(tags: list[str], allowed: dict[str, str]):
    crf = constrain(init_crf(len(tags), jax.random.key(0)), tags)
    for before, after in allowed.items():
        row = np.asarray(crf["transitions"][tags.index(before)])
        assert [tag for tag, score in zip(tags, row, strict=True) if score > IMPOSSIBLE] == after.split()
    starts = [tag for tag, score in zip(tags, np.asarray(crf["start"]), strict=True) if score > IMPOSSIBLE]
    assert starts == [tag for tag in tags if tag[0] in "OBS"]
    ends = [tag for tag, score in zip(tags, np.asarray(crf["end"]), strict=True) if score > IMPOSSIBLE]
    assert ends == [tag for tag in tags if tag[0] in ("OES" if "E-X" in tags else "OBI")]
    emissions = 5 * jax.random.normal(jax.random.key(1), (20, 9, len(tags)))
    for row in np.asarray(viterbi(crf, emissions, jnp.ones((20, 9), bool))):
        for a, b in itertools.pairwise(row):
            assert crf["transitions"][a, b] > IMPOSSIBLE


def test_an_unknown_tag_is_refused():
    with pytest.raises(ValueError, match="'X-PER'"):
        constrain(init_crf(2, jax.random.key(0)), ["O", "X-PER"])


def test_the_memory_of_a_gradient_grows_linearly_with_the_length():
    crf = init_crf(5, jax.random.key(0))

    def size(width: int) -> int:
        inputs = (jnp.zeros((2, width, 5)), jnp.zeros((2, width), jnp.int32), jnp.ones((2, width), bool))
        gradient = jax.jit(jax.grad(lambda crf: log_likelihood(crf, *inputs).sum()))
        memory = gradient.lower(crf).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    assert size(800) < 2.2 * size(400)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 5), padding=st.integers(0, 2))
def test_marginals_are_the_shares_of_all_sequences(seed, length, padding):
    rng = np.random.default_rng(seed)
    crf, emissions = random_crf(rng, 3), rng.normal(size=(length, 3))
    scores = enumerate_scores(crf, emissions)
    weights = np.exp(np.array(list(scores.values())))
    wanted = np.zeros((length + padding, 3))
    for path, weight in zip(scores, weights / weights.sum(), strict=True):
        wanted[np.arange(length), path] += weight
    padded = np.concatenate([emissions, rng.normal(size=(padding, 3))])[None].astype(np.float32)
    mask = (np.arange(length + padding) < length)[None]
    np.testing.assert_allclose(jax.jit(crf_functions.marginals)(crf, padded, mask)[0], wanted, atol=1e-5)
