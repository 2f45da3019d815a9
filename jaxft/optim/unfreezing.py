"""The published plans of unfreezing: gradual unfreezing, ULMFiT's scripts, chain-thaw, last layer, and full.

Each function returns a plan, a tuple of `jaxft.optim.phases.Phase`. `groups` are ordered bottom (next to the input) to
top.
"""

from collections.abc import Mapping, Sequence

from jaxft.optim.groups import discriminative_rates
from jaxft.optim.phases import Phase, Plan


def gradual_unfreezing(
    groups: Sequence[str],
    peak_rate: float,
    divisor: float = 2.6,
    epochs_per_phase: int = 1,
    final_epochs: int = 1,
    schedule: str = "slanted_triangular",
    **options: float | str,
) -> Plan:
    """Gradual unfreezing: the top group trains alone first, and each phase unfreezes the next group below.

    Args:
        groups: names of the groups, bottom to top.
        peak_rate: peak learning rate of the top group, in every phase.
        divisor: how many times smaller each rate is than the one above; 1 gives all groups the same rate.
        epochs_per_phase: epochs of each phase except the last.
        final_epochs: epochs of the last phase, in which all groups train.
        schedule: name of the schedule of every phase.
        **options: options of the schedule.

    Returns:
        A plan with as many phases as groups.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> from jaxft.optim.phases import format_plan
        >>> print(format_plan(gradual_unfreezing(["embed", "lstm", "head"], 0.01, final_epochs=4)))
        phase   epochs     embed      lstm  head  schedule
        last 1       1    frozen    frozen  0.01  slanted_triangular
        last 2       1    frozen  0.003846  0.01  slanted_triangular
        all          4  0.001479  0.003846  0.01  slanted_triangular

    References:
        Howard and Ruder, `Universal Language Model Fine-tuning for Text Classification
        <https://arxiv.org/abs/1801.06146>`_, 2018, section 3.3.
    """
    rates = discriminative_rates(groups, peak_rate, divisor)
    return tuple(
        _phase(
            rates, list(groups)[-count:], final_epochs if count == len(groups) else epochs_per_phase, schedule, options
        )
        for count in range(1, len(groups) + 1)
    )


def fastai_unfreezing(
    groups: Sequence[str],
    peak_rate: float,
    divisor: float = 2.6,
    epochs_per_phase: int = 1,
    final_epochs: int = 1,
) -> Plan:
    """The plan of the ULMFiT authors' scripts: the last group trains, then the last two, then all.

    The schedules are slanted triangles with `ratio=8`. They peak after a third of the steps in the first two phases,
    and after an eighth in the last.

    Args:
        groups: as for `gradual_unfreezing`.
        peak_rate: likewise.
        divisor: likewise.
        epochs_per_phase: epochs of the first two phases.
        final_epochs: epochs of the last phase.

    Returns:
        A plan of three phases, or fewer with fewer than three groups.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> [phase.name for phase in fastai_unfreezing(["embed", "lstm 1", "lstm 2", "head"], 0.01)]
        ['last 1', 'last 2', 'all']

    References:
        train_clas.py in `fastai 0.7 <https://github.com/fastai/fastai1/tree/master/courses/dl2/imdb_scripts>`_.
    """
    rates = discriminative_rates(groups, peak_rate, divisor)
    first_phases = [
        _phase(rates, list(groups)[-count:], epochs_per_phase, "slanted_triangular", {"cut_frac": 1 / 3, "ratio": 8.0})
        for count in (1, 2)
        if count < len(groups)
    ]
    final = _phase(rates, groups, final_epochs, "slanted_triangular", {"cut_frac": 1 / 8, "ratio": 8.0})
    return (*first_phases, final)


def chain_thaw(
    groups: Sequence[str],
    last_rate: float = 1e-3,
    rate: float = 1e-4,
    epochs_per_phase: int = 1,
    final_epochs: int = 1,
    schedule: str = "constant",
    **options: float | str,
) -> Plan:
    """Chain-thaw: the top group trains, then each other group alone from the bottom up, then all groups together.

    Args:
        groups: names of the groups, bottom to top.
        last_rate: peak learning rate of the top group in the first phase.
        rate: peak learning rate of every group in the other phases.
        epochs_per_phase: epochs of each phase in which one group trains.
        final_epochs: epochs of the phase in which all train.
        schedule: as for `gradual_unfreezing`.
        **options: likewise.

    Returns:
        A plan with one phase more than groups.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> from jaxft.optim.phases import format_plan
        >>> print(format_plan(chain_thaw(["embed", "lstm", "head"])))
        phase  epochs   embed    lstm    head  schedule
        head        1  frozen  frozen   0.001  constant
        embed       1  0.0001  frozen  frozen  constant
        lstm        1  frozen  0.0001  frozen  constant
        all         1  0.0001  0.0001  0.0001  constant

    References:
        Felbo et al., `Using millions of emoji occurrences to learn any-domain representations for detecting sentiment,
        emotion and sarcasm <https://arxiv.org/abs/1708.00524>`_, 2017.
    """
    same_rates = discriminative_rates(groups, rate, 1.0)
    top = groups[-1]
    rates = {**same_rates, top: last_rate}
    alone = [Phase(group, _only(rates, [group]), epochs_per_phase, schedule, options) for group in (top, *groups[:-1])]
    return (*alone, _phase(same_rates, groups, final_epochs, schedule, options))


def last_layer(
    groups: Sequence[str], rate: float = 1e-3, epochs: int = 1, schedule: str = "constant", **options: float | str
) -> Plan:
    """Trains the top group only.

    Args:
        groups: names of the groups, bottom to top.
        rate: peak learning rate of the top group.
        epochs: number of epochs.
        schedule: name of the schedule.
        **options: options of the schedule.

    Returns:
        A plan of one phase.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> last_layer(["body", "head"])[0].rates
        {'body': None, 'head': 0.001}

    References:
        Felbo et al., 2017, as for `chain_thaw`.
    """
    return (_phase(discriminative_rates(groups, rate, 1.0), list(groups)[-1:], epochs, schedule, options),)


def full(
    groups: Sequence[str],
    peak_rate: float = 1e-3,
    divisor: float = 1.0,
    epochs: int = 1,
    schedule: str = "constant",
    **options: float | str,
) -> Plan:
    """Trains all groups from the start.

    The default rate is Adam's usual one, as in `last_layer`. Felbo et al. (2017), who compare these plans, train all
    groups at 1e-4.

    Args:
        groups: names of the groups, bottom to top.
        peak_rate: peak learning rate of the top group.
        divisor: how many times smaller each rate is than the one above; 2.6 for discriminative fine-tuning.
        epochs: as for `last_layer`.
        schedule: likewise.
        **options: likewise.

    Returns:
        A plan of one phase.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> full(["body", "head"], 0.02, divisor=2.0)[0].rates
        {'body': 0.01, 'head': 0.02}

    References:
        Felbo et al., 2017, as for `chain_thaw`.
    """
    return (_phase(discriminative_rates(groups, peak_rate, divisor), groups, epochs, schedule, options),)


def _phase(
    rates: Mapping[str, float], trainable: Sequence[str], epochs: int, schedule: str, options: Mapping[str, float | str]
) -> Phase:
    """A phase that trains the last groups, or all."""
    name = "all" if len(trainable) == len(rates) else f"last {len(trainable)}"
    return Phase(name, _only(rates, trainable), epochs, schedule, dict(options))


def _only(rates: Mapping[str, float], trainable: Sequence[str]) -> dict[str, float | None]:
    """The rates with all other groups frozen."""
    return {group: rate if group in trainable else None for group, rate in rates.items()}
