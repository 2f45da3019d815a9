"""Moves a language model's embedding to another vocabulary.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018; their code (fastai) gives
    new words the mean.
"""

from typing import Any

import jax.numpy as jnp

from jaxft.data.vocabulary import Vocabulary


def transfer_vocabulary(params: dict[str, Any], old: Vocabulary, new: Vocabulary) -> tuple[dict[str, Any], int]:
    """Gives every token of `new` its embedding and bias in `old`, or the mean of all if `old` lacks the token.

    Args:
        params: of a language model, with `encoder/embedding` (V_old, E) and `decoder_bias` (V_old,), float32.
        old: the vocabulary of `params`.
        new: the vocabulary of the result.

    Returns:
        The parameters, with an embedding (V_new, E) and a bias (V_new,) and everything else shared with `params`, and
        the number of tokens of `new` that are in `old`.

    Examples:
        >>> old, new = (Vocabulary(("xxunk", "xxpad", "xxbos", word)) for word in ("film", "movie"))
        >>> params = {"encoder": {"embedding": jnp.arange(4.0)[:, None]}, "decoder_bias": jnp.zeros(4)}
        >>> moved, matched = transfer_vocabulary(params, old, new)
        >>> moved["encoder"]["embedding"].ravel().tolist(), matched
        ([0.0, 1.0, 2.0, 1.5], 3)
    """
    rows = jnp.asarray(new.matches(old))  # (V_new,)
    known = rows >= 0
    embedding, bias = params["encoder"]["embedding"], params["decoder_bias"]
    encoder = {
        **params["encoder"],
        "embedding": jnp.where(known[:, None], embedding[rows], embedding.mean(axis=0)[None, :]),
    }
    return {**params, "encoder": encoder, "decoder_bias": jnp.where(known, bias[rows], bias.mean())}, int(known.sum())
