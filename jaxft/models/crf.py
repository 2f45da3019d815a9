"""A linear-chain conditional random field: likelihood and marginals of tags, and the best sequence.

The functions take `crf`, a dict with `transitions` (K, K) from tag to tag, `start` (K,) and `end` (K,). Sums are
float32 in log space, whatever the dtype of the emissions. Masked steps are skipped wherever they are, so that padding
may be on either side.

Axes: B batch, T time, K tags.

References:
    Lafferty, McCallum & Pereira, Conditional Random Fields, ICML 2001.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

CRF = Mapping[str, jax.Array]

IMPOSSIBLE = -1e4
"""score of a transition that `constrain` forbids: finite, so that no gradient is NaN, and far below any learnt score"""


def init_crf(num_tags: int, key: jax.Array) -> dict[str, jax.Array]:
    """Random scores from U(-0.1, 0.1), float32.

    Examples:
        >>> {name: scores.shape for name, scores in init_crf(3, jax.random.key(0)).items()}
        {'transitions': (3, 3), 'start': (3,), 'end': (3,)}
    """
    shapes = {"transitions": (num_tags, num_tags), "start": (num_tags,), "end": (num_tags,)}
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.uniform(one, shape, minval=-0.1, maxval=0.1)
        for one, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def log_likelihood(crf: CRF, emissions: ArrayLike, tags: ArrayLike, mask: ArrayLike) -> jax.Array:
    """The log-probability (B,) float32, in nats, of each sequence of tags; 0 for a sequence without a step.

    Args:
        crf: scores.
        emissions: (B, T, K) float, the score of each tag at each step.
        tags: (B, T) int in [0, K); anything where `mask` is False.
        mask: (B, T) bool, False on padding.

    Examples:
        >>> crf = {"transitions": jnp.zeros((2, 2)), "start": jnp.zeros(2), "end": jnp.zeros(2)}
        >>> emissions = jnp.zeros((1, 3, 2))
        >>> mask = jnp.array([[True, True, False]])
        >>> jnp.exp(log_likelihood(crf, emissions, jnp.array([[0, 1, -1]]), mask)).round(4)  # one of four
        Array([0.25], dtype=float32)
    """
    crf, emissions, mask = _float32(crf), _time_first(emissions).astype(jnp.float32), _time_first(mask)
    score = _score(crf, emissions, _time_first(tags), mask)
    return score - _log_partition(crf, emissions, mask)


def tag_log_likelihoods(crf: CRF, emissions: ArrayLike, tags: ArrayLike, mask: ArrayLike) -> jax.Array:
    """The log-probability (B, T) float32, in nats, of each tag given those after it; 0 on padding.

    Those of a sequence sum to its log-likelihood.

    Args:
        crf, emissions, tags, mask: as for `log_likelihood`.

    Examples:
        >>> crf = {"transitions": jnp.zeros((2, 2)), "start": jnp.zeros(2), "end": jnp.zeros(2)}
        >>> emissions = jnp.log(jnp.array([[[0.25, 0.75], [0.5, 0.5], [0.5, 0.5]]]))
        >>> mask = jnp.array([[True, True, False]])
        >>> jnp.exp(tag_log_likelihoods(crf, emissions, jnp.array([[0, 1, -1]]), mask)).round(4).tolist()
        [[0.25, 0.5, 1.0]]
    """
    crf, emissions, mask = _float32(crf), _time_first(emissions).astype(jnp.float32), _time_first(mask)
    tags = jnp.where(mask, _time_first(tags), 0)
    (alpha, _), alphas = _forward(crf, emissions, mask)

    def step(after: jax.Array, x: tuple) -> tuple[jax.Array, jax.Array]:
        alpha, tag, valid = x  # after (B, K): the score from each tag to what follows
        logs = jnp.take_along_axis(jax.nn.log_softmax(alpha + after, axis=1), tag[:, None], axis=1)[:, 0]
        after = jnp.where(valid[:, None], crf["transitions"].T[tag], after)
        return after, jnp.where(valid, logs, jnp.zeros_like(logs))

    end = jnp.broadcast_to(crf["end"][None, :], alpha.shape)
    return _time_first(jax.lax.scan(step, end, (alphas, tags, mask), reverse=True)[1])


def viterbi(crf: CRF, emissions: ArrayLike, mask: ArrayLike) -> jax.Array:
    """The tags (B, T) int32 of the best sequence; -1 where `mask` is False.

    Args:
        crf, emissions, mask: as for `log_likelihood`.

    Examples:
        >>> crf = {"transitions": jnp.array([[0.0, -9.0], [-9.0, 0.0]]), "start": jnp.zeros(2), "end": jnp.zeros(2)}
        >>> emissions = jnp.array([[[5.0, 0.0], [0.0, 1.0], [0.0, 2.0]]])
        >>> viterbi(crf, emissions, jnp.array([[True, True, False]])).tolist()  # a change costs more than it brings
        [[0, 0, -1]]
    """
    crf, emissions, mask = _float32(crf), _time_first(emissions).astype(jnp.float32), _time_first(mask)
    begun = jnp.cumsum(mask, axis=0) > mask.astype(jnp.int32)  # (T, B), whether a step came before
    stay = jnp.arange(emissions.shape[2], dtype=jnp.int32)[None, :]

    def forward(best: jax.Array, x: tuple) -> tuple[jax.Array, jax.Array]:
        emission, valid, later = x
        through = best[:, :, None] + crf["transitions"][None]  # (B, K from, K to)
        moved = jnp.where(later[:, None], through.max(axis=1), crf["start"][None, :]) + emission
        came_from = jnp.where((valid & later)[:, None], through.argmax(axis=1).astype(jnp.int32), stay)
        return jnp.where(valid[:, None], moved, best), came_from

    best, came_from = jax.lax.scan(forward, jnp.zeros_like(emissions[0]), (emissions, mask, begun))
    last = (best + crf["end"][None, :]).argmax(axis=1).astype(jnp.int32)

    def backward(tag: jax.Array, pointers: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.take_along_axis(pointers, tag[:, None], axis=1)[:, 0], tag

    _, tags = jax.lax.scan(backward, last, came_from, reverse=True)
    return jnp.where(mask, tags, jnp.int32(-1)).T


def marginals(crf: CRF, emissions: ArrayLike, mask: ArrayLike) -> jax.Array:
    """The probability (B, T, K) float32 of each tag at each step, by the forward-backward algorithm; 0 on padding.

    It is the gradient of the log partition function by the emissions.

    Args:
        crf, emissions, mask: as for `log_likelihood`.

    Examples:
        >>> crf = {"transitions": jnp.zeros((2, 2)), "start": jnp.zeros(2), "end": jnp.zeros(2)}
        >>> marginals(crf, jnp.log(jnp.array([[[0.25, 0.75]]])), jnp.array([[True]])).round(2).tolist()
        [[[0.25, 0.75]]]

    References:
        Wainwright & Jordan, Graphical Models, Exponential Families, and Variational Inference, 2008, section 3.
    """
    crf, time_first, mask = _float32(crf), _time_first(emissions).astype(jnp.float32), _time_first(mask)
    return _time_first(jax.grad(lambda scores: _log_partition(crf, scores, mask).sum())(time_first))


def constrain(crf: CRF, tags: Sequence[str]) -> dict[str, jax.Array]:
    """The scores, with those transitions at `IMPOSSIBLE` that a BIO or BIOES scheme rules out.

    Args:
        crf: scores.
        tags: names of the K tags, such as O, B-PER, I-PER, E-PER, S-PER. If any of them is an E or S tag, every entity
            has to end with E or be a single S.

    Raises:
        ValueError: a name that is neither O nor begins with B-, I-, E- or S-.

    Examples:
        >>> crf = {"transitions": jnp.zeros((3, 3)), "start": jnp.zeros(3), "end": jnp.zeros(3)}
        >>> (constrain(crf, ["O", "B-PER", "I-PER"])["transitions"] == 0).tolist()  # no I-PER after O
        [[True, True, False], [True, True, True], [True, True, True]]
    """
    kinds = [("O", "") if tag == "O" else (tag[:1], tag[2:]) for tag in tags]
    for tag, (kind, _) in zip(tags, kinds, strict=True):
        if tag != "O" and (kind not in "BIES" or tag[1:2] != "-"):
            raise ValueError(
                f"the tag {tag!r} is not in the BIO or BIOES scheme: name it O or B-, I-, E- or S- and a type"
            )
    closed = any(kind in "ES" for kind, _ in kinds)

    def follows(before: tuple[str, str], after: tuple[str, str]) -> bool:
        inside = before[0] in "BI"
        if after[0] in "IE":
            return inside and before[1] == after[1]
        return not (closed and inside)

    outside = ("O", "")
    allowed = {
        "transitions": np.array([[follows(a, b) for b in kinds] for a in kinds]),
        "start": np.array([follows(outside, b) for b in kinds]),
        "end": np.array([follows(a, outside) for a in kinds]),
    }
    return {name: jnp.where(allowed[name], scores, jnp.float32(IMPOSSIBLE)) for name, scores in crf.items()}


def _score(crf: CRF, emissions: jax.Array, tags: jax.Array, mask: jax.Array) -> jax.Array:
    """The score of each given sequence, (B,)."""
    tags = jnp.where(mask, tags, jnp.zeros_like(tags))
    chosen = jnp.take_along_axis(emissions, tags[:, :, None], axis=2)[:, :, 0]  # (T, B)

    def step(carry: tuple, x: tuple) -> tuple[tuple, None]:
        score, last, begun = carry
        emission, tag, valid = x
        moved = jnp.where(begun, crf["transitions"][last, tag], crf["start"][tag])
        score = score + jnp.where(valid, moved + emission, jnp.zeros_like(emission))
        return (score, jnp.where(valid, tag, last), begun | valid), None

    start = (jnp.zeros_like(chosen[0]), tags[0], jnp.zeros_like(mask[0]))
    (score, last, begun), _ = jax.lax.scan(step, start, (chosen, tags, mask))
    return score + jnp.where(begun, crf["end"][last], jnp.zeros_like(score))


def _log_partition(crf: CRF, emissions: jax.Array, mask: jax.Array) -> jax.Array:
    """The logarithm of the sum of exp(score) over all sequences, (B,)."""
    (alpha, begun), _ = _forward(crf, emissions, mask)
    total = jax.nn.logsumexp(alpha + crf["end"][None, :], axis=1)
    return jnp.where(begun, total, jnp.zeros_like(total))


def _forward(crf: CRF, emissions: jax.Array, mask: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The logarithm of the sum of exp(score) over the sequences that end in each tag.

    Returns:
        Those of the whole sequences (B, K) with whether there is a step (B,), and those up to each step (T, B, K).
    """

    def step(carry: tuple, x: tuple) -> tuple[tuple, jax.Array]:
        alpha, begun = carry
        emission, valid = x
        through = jax.nn.logsumexp(alpha[:, :, None] + crf["transitions"][None], axis=1)
        moved = jnp.where(begun[:, None], through, crf["start"][None, :]) + emission
        alpha = jnp.where(valid[:, None], moved, alpha)
        return (alpha, begun | valid), alpha

    return jax.lax.scan(step, (jnp.zeros_like(emissions[0]), jnp.zeros_like(mask[0])), (emissions, mask))


def _float32(crf: CRF) -> dict[str, jax.Array]:
    return {name: jnp.asarray(scores, jnp.float32) for name, scores in crf.items()}


def _time_first(x: ArrayLike) -> jax.Array:
    return jnp.swapaxes(jnp.asarray(x), 0, 1)
