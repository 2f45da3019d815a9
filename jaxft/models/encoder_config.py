"""The configuration of any encoder."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxft.errors import InputError
from jaxft.models.bert_config import BertConfig, bert_config
from jaxft.models.encoder_kinds import POOLERS, kind_of
from jaxft.models.modernbert_config import ModernBertConfig, modernbert_config
from jaxft.models.options import Pooling, Precision

EncoderConfig = BertConfig | ModernBertConfig


def encoder_config(
    settings: Mapping[str, Any],
    name: str,
    pooler: bool = False,
    num_labels: int | None = None,
    precision: Precision = "f32",
    pooling: Pooling = "cls",
) -> EncoderConfig:
    """The configuration that config.json of any encoder describes.

    Args:
        settings: content of config.json.
        name: of the checkpoint, for errors.
        pooler, num_labels, precision, pooling: as in `BertConfig`.

    Raises:
        InputError: the model is none of ours, or a value is missing, of the wrong type, or out of range.
    """
    if (kind := kind_of(settings, name)) == "modernbert":
        return replace(modernbert_config(settings, name, pooler, num_labels, precision), pooling=pooling)
    return replace(bert_config(settings, kind, name, pooler, num_labels, precision), pooling=pooling)


def named_pooling(settings: Mapping[str, Any], name: str) -> Pooling | None:
    """The pooling that config.json names, as that of ModernBERT does; None for other encoders.

    Args:
        settings: content of config.json.
        name: of the checkpoint, for errors.

    Raises:
        InputError: it is none that ModernBERT has.
    """
    if kind_of(settings, name) != "modernbert":
        return None
    given = settings.get("classifier_pooling") or "cls"
    for pooling in POOLERS["modernbert"]:
        if pooling == given:
            return pooling
    raise InputError(
        f"{name} has a config.json with classifier_pooling {given!r}: correct it to one of "
        f"{', '.join(POOLERS['modernbert'])}"
    )
