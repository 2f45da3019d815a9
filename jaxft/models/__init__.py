"""The models: language model, classifier, taggers and encoders, and the readers of others' weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def load_encoder(folder: str | Path, num_labels: int | None = None) -> tuple[Callable[..., dict[str, Any]], dict]:
    """Reads a checkpoint of any encoder that jaxft knows, as a pure function and its parameters.

    They are BERT, RoBERTa and XLM-R, DistilBERT, ELECTRA, ALBERT, MPNet, DeBERTa-v3 and ModernBERT.

    Args:
        folder: of a Hugging Face checkpoint.
        num_labels: outputs of the head; None takes the head of the checkpoint, if it has one.

    Returns:
        `apply(params, input_ids, attention_mask, token_type_ids=None, key=None, *, frozen_layers=0)`, which returns
        `hidden_states`, a list of (B, T, H) float32, `pooled` (B, H) and, with a head, `logits` (B, C); and the
        parameters, a nested dict of float32 arrays. `apply` raises a ValueError where the encoder embeds positions and
        has fewer of them than the texts have tokens.

    Raises:
        InputError: a file is missing or damaged, the model is of another kind, or the weights do not fit.
    """
    from jaxft.models import encoders  # takes longer to import than the other models need

    return encoders.load(folder, num_labels)
