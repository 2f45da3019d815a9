"""The plan of fine-tuning: peak rates of the layers, and phases of unfreezing and of weight averaging.

References:
    Zhang et al., Revisiting Few-sample BERT Fine-tuning, ICLR 2021; Howard & Ruder, ACL 2018;
    Izmailov et al., UAI 2018.
"""

from collections.abc import Sequence

from jaxft.finetune.settings import Training
from jaxft.models.encoders import encoder_rules
from jaxft.optim.groups import discriminative_rates, layerwise_decay_rates
from jaxft.optim.phases import Phase, Plan
from jaxft.training.settings import check_steps, enough_epochs

GROUPED_DIVISORS = (1.0, 2.0, 3.5)
"""divisors of the peak rate in the upper, middle and lower third of the layers, for grouped layer-wise decay"""
SCHEDULES_WITHOUT_WARMUP = {"slanted_triangular", "one_cycle", "constant"}


def group_rates(train: Training, num_layers: int) -> dict[str, float]:
    """The peak rate of the embeddings, of every layer and of the head.

    Examples:
        >>> rates = group_rates(Training(peak_rate=3.5e-6, head_rate=3.6e-6, layer_rates="grouped"), 3)
        >>> {group: float(f"{rate:.3g}") for group, rate in rates.items()}
        {'embeddings': 1e-06, 'layer_0': 1e-06, 'layer_1': 1.75e-06, 'layer_2': 3.5e-06, 'head': 3.6e-06}
    """
    *below, head = (group for _, group in encoder_rules(num_layers))
    match train.layer_rates:
        case "same":
            rates = dict.fromkeys(below, train.peak_rate)
        case "decay":
            rates = layerwise_decay_rates(below, train.peak_rate, train.decay)
        case "divisor":
            rates = discriminative_rates(below, train.peak_rate, train.divisor)
        case "grouped":
            divisors = [GROUPED_DIVISORS[3 * depth // num_layers] for depth in reversed(range(num_layers))]
            divisors = [divisors[0], *divisors]  # the embeddings go with the lowest layer
            rates = {group: train.peak_rate / divisor for group, divisor in zip(below, divisors, strict=True)}
    return {**rates, head: train.head_rate or train.peak_rate}


def finetune_plan(train: Training, num_layers: int, steps_per_epoch: int) -> Plan:
    """The phases of training, for `steps_per_epoch` steps in an epoch.

    Examples:
        >>> [(p.name, p.epochs, p.schedule) for p in finetune_plan(Training(epochs=5, swa_start=3), 2, 100)]
        [('all', 3, 'linear'), ('swa', 2, 'constant')]

    Raises:
        InputError: more steps than are counted.
    """
    rates = group_rates(train, num_layers)
    groups = list(rates)
    epochs = enough_epochs(train.epochs, train.min_steps, steps_per_epoch)
    check_steps(epochs + len(groups), steps_per_epoch, "train.epochs", "train.min_steps")

    def phase(name: str, trained: Sequence[str], epochs: int, span: int | None = None) -> Phase:
        steps = (span or epochs) * steps_per_epoch
        warmup = int(train.warmup if train.warmup >= 1 else train.warmup * steps)
        options = {} if train.schedule in SCHEDULES_WITHOUT_WARMUP else {"warmup_steps": min(warmup, steps)}
        phase_rates = {group: rates[group] if group in trained else None for group in groups}
        return Phase(name, phase_rates, epochs, train.schedule, options, span)

    if train.unfreeze == "head":
        return (phase("head", groups[-1:], epochs),)
    opening = range(1, len(groups)) if train.unfreeze == "gradual" else ()
    phases = [phase(f"last {top}", groups[-top:], 1) for top in opening]
    if train.swa_start is None:
        return (*phases, phase("all", groups, epochs))
    top = train.peak_rate / 2 if train.swa_rate is None else train.swa_rate
    averaged = {g: top if train.swa_one_rate else rate * top / train.peak_rate for g, rate in rates.items()}
    first = round(train.swa_start * epochs / train.epochs)
    last = Phase("swa", averaged, epochs - first, "constant")
    return (*phases, phase("all", groups, first, span=epochs), last)
