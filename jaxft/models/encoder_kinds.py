"""The architectures of encoders: their names in checkpoints and in transformers, and which of them have a pooler."""

from collections.abc import Mapping
from typing import Any, Literal

from jaxft.errors import InputError
from jaxft.models.options import Pooling

Kind = Literal["bert", "roberta", "distilbert", "electra", "albert", "mpnet", "deberta", "modernbert"]
KINDS: dict[str, Kind] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
    "albert": "albert",
    "mpnet": "mpnet",
    "deberta-v2": "deberta",
    "modernbert": "modernbert",
}
"""the architecture, and the names of weights, for each `model_type` that a checkpoint may have"""
ARCHITECTURES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "albert": "Albert",
    "mpnet": "MPNet",
    "deberta-v2": "DebertaV2",
    "modernbert": "ModernBert",
}
"""what the names of the classes of `transformers` begin with"""
POOLERS: dict[Kind, tuple[Pooling, ...]] = {
    "bert": ("cls",),
    "albert": ("cls",),
    "deberta": ("cls",),
    "modernbert": ("cls", "mean"),
}
"""architectures whose head for texts reads a pooler, and what the pooler may read"""


def head_poolings(kind: Kind) -> tuple[Pooling, ...]:
    """What a head for texts of `transformers` may read.

    Examples:
        >>> head_poolings("roberta"), head_poolings("modernbert")
        (('cls',), ('cls', 'mean'))
    """
    return POOLERS.get(kind, ("cls",))


def architecture_of(settings: Mapping[str, Any]) -> str:
    """The class of `transformers` that config.json names, such as BertForMaskedLM; empty without one."""
    names = settings.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def model_type_of(settings: Mapping[str, Any], name: str) -> str:
    """The type of the model, by `model_type` in config.json or else by the class that it names.

    Examples:
        >>> model_type_of({"architectures": ["XLMRobertaForMaskedLM"]}, "xlm")
        'xlm-roberta'

    Raises:
        InputError: there is neither.
    """
    if (model_type := settings.get("model_type")) is not None:
        return str(model_type)
    classes = {f"{start}{end}": kind for kind, start in ARCHITECTURES.items() for end in ("For", "Model")}
    architecture = architecture_of(settings)
    found = next((kind for start, kind in classes.items() if architecture.startswith(start)), None)
    if found is None:
        raise InputError(
            f"the config.json in {name} names no model_type: add what the model is, one of {', '.join(sorted(KINDS))}"
        )
    return found


def kind_of(settings: Mapping[str, Any], name: str) -> Kind:
    """The architecture that config.json names.

    Args:
        settings: content of config.json.
        name: of the checkpoint, for errors.

    Raises:
        InputError: it is none of ours.
    """
    model_type = model_type_of(settings, name)
    if model_type not in KINDS:
        raise InputError(
            f"the model in {name} is of type {model_type!r}: name a checkpoint of a type among "
            f"{', '.join(sorted(KINDS))}"
        )
    return KINDS[model_type]
