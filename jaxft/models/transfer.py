"""Moves a model's embedding from one vocabulary to another: what a saved model needs when it meets new text.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018, whose code (fastai) fills
    new words with the mean.
"""

from typing import Any

import jax.numpy as jnp

from jaxft.data.vocabulary import Vocabulary


def transfer_vocabulary(params: dict[str, Any], old: Vocabulary, new: Vocabulary) -> tuple[dict[str, Any], int]:
    """Gives every token of `new` the embedding and bias that it has in `old`, or the mean of all where it has none.

    Args:
        params: of a language model: `encoder/embedding` (V_old, E) and `decoder_bias` (V_old,), float32, and the
            layers.
        old: the vocabulary that they belong to.
        new: the vocabulary that they are wanted for.

    Returns:
        The parameters with (V_new, E) and (V_new,), everything else shared with `params`, and how many tokens of `new`
        were in `old`.

    Examples:
        >>> old, new = (Vocabulary(("xxunk", "xxpad", "xxbos", word)) for word in ("film", "movie"))
        >>> params = {"encoder": {"embedding": jnp.arange(4.0)[:, None]}, "decoder_bias": jnp.zeros(4)}
        >>> moved, matched = transfer_vocabulary(params, old, new)
        >>> moved["encoder"]["embedding"].ravel().tolist(), matched
        ([0.0, 1.0, 2.0, 1.5], 3)
    """
    rows = jnp.asarray(new.matches(old))  # (V_new,)
    found = rows >= 0
    embedding, bias = params["encoder"]["embedding"], params["decoder_bias"]
    encoder = {
        **params["encoder"],
        "embedding": jnp.where(found[:, None], embedding[rows], embedding.mean(axis=0)[None, :]),
    }
    return {**params, "encoder": encoder, "decoder_bias": jnp.where(found, bias[rows], bias.mean())}, int(found.sum())
