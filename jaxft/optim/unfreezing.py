"""The published orders of unfreezing, as plans of phases.

Each function makes a tuple of `jaxft.optim.phases.Phase`, which prints and draws itself before any model exists. `groups` are
always ordered bottom (next to the input) to top.
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
    """Gradual unfreezing: train the top group alone, then unfreeze the next below, and so on until all train.

    Args:
        groups: names of the groups, bottom to top.
        peak_rate: peak learning rate of the top group, in every phase.
        divisor: factor from the rate of a group to the one below; 1 gives all the same.
        epochs_per_phase: epochs of each phase but the last.
        final_epochs: epochs of the last phase, in which everything trains.
        schedule: name of the schedule of each phase.
        **options: options of that schedule.

    Returns:
        A plan of as many phases as groups.

    Raises:
        ValueError: where an argument is out of its range.

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
        _phase(rates, list(groups)[-top:], epochs_per_phase if top < len(groups) else final_epochs, schedule, options)
        for top in range(1, len(groups) + 1)
    )


def fastai_unfreezing(
    groups: Sequence[str],
    peak_rate: float,
    divisor: float = 2.6,
    epochs_per_phase: int = 1,
    final_epochs: int = 1,
) -> Plan:
    """The order and schedules of the ULMFiT authors' own scripts: the last group, the last two, then all.

    Slanted triangles with `ratio=8` peak after a third of the first two phases and an eighth of the last.

    Args:
        groups: names of the groups, bottom to top.
        peak_rate: peak learning rate of the top group, in every phase.
        divisor: factor from the rate of a group to the one below.
        epochs_per_phase: epochs of the first two phases.
        final_epochs: epochs of the last.

    Returns:
        A plan of three phases; of fewer where there are fewer than three groups.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> [phase.name for phase in fastai_unfreezing(["embed", "lstm 1", "lstm 2", "head"], 0.01)]
        ['last 1', 'last 2', 'all']

    References:
        train_clas.py in `fastai 0.7 <https://github.com/fastai/fastai1/tree/master/courses/dl2/imdb_scripts>`_.
    """
    rates = discriminative_rates(groups, peak_rate, divisor)
    order = list(groups)
    opening = [
        _phase(rates, order[-top:], epochs_per_phase, "slanted_triangular", {"cut_frac": 1 / 3, "ratio": 8.0})
        for top in (1, 2)
        if top < len(order)
    ]
    final = _phase(rates, order, final_epochs, "slanted_triangular", {"cut_frac": 1 / 8, "ratio": 8.0})
    return (*opening, final)


def chain_thaw(
    groups: Sequence[str],
    last_rate: float = 1e-3,
    rate: float = 1e-4,
    epochs_per_phase: int = 1,
    final_epochs: int = 1,
    schedule: str = "constant",
    **options: float | str,
) -> Plan:
    """Chain-thaw: train the top group, then each other group alone from the bottom up, then all together.

    Args:
        groups: names of the groups, bottom to top.
        last_rate: learning rate of the top group.
        rate: learning rate of the others, and of all together at the end.
        epochs_per_phase: epochs of each phase but the last.
        final_epochs: epochs of the last.
        schedule: name of the schedule of each phase.
        **options: options of that schedule.

    Returns:
        A plan of one phase more than groups.

    Raises:
        ValueError: where an argument is out of its range.

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
    together = discriminative_rates(groups, rate, 1.0)
    top = list(groups)[-1]
    rates = {**together, top: last_rate}
    alone = [Phase(group, _only(rates, [group]), epochs_per_phase, schedule, options) for group in (top, *groups[:-1])]
    return (*alone, _phase(together, list(groups), final_epochs, schedule, options))


def last_layer(
    groups: Sequence[str], rate: float = 1e-3, epochs: int = 1, schedule: str = "constant", **options: float | str
) -> Plan:
    """Trains the top group and nothing else.

    Args:
        groups: names of the groups, bottom to top.
        rate: its learning rate.
        epochs: epochs.
        schedule: name of the schedule.
        **options: options of that schedule.

    Returns:
        A plan of one phase.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> last_layer(["body", "head"])[0].rates
        {'body': None, 'head': 0.001}
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
    """Trains everything from the start.

    The default rate is that of `last_layer` and `chain_thaw`'s first phase, Adam's usual one; Felbo et al. (2017), who
    compare these plans, train everything at 1e-4.

    Args:
        groups: names of the groups, bottom to top.
        peak_rate: peak learning rate of the top group.
        divisor: factor from the rate of a group to the one below; 2.6 for discriminative fine-tuning.
        epochs: epochs.
        schedule: name of the schedule.
        **options: options of that schedule.

    Returns:
        A plan of one phase.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> full(["body", "head"], 0.02, divisor=2.0)[0].rates
        {'body': 0.01, 'head': 0.02}
    """
    return (_phase(discriminative_rates(groups, peak_rate, divisor), list(groups), epochs, schedule, options),)


def _phase(
    rates: Mapping[str, float], training: Sequence[str], epochs: int, schedule: str, options: Mapping[str, float | str]
) -> Phase:
    name = "all" if len(training) == len(rates) else f"last {len(training)}"
    return Phase(name, _only(rates, training), epochs, schedule, dict(options))


def _only(rates: Mapping[str, float], training: Sequence[str]) -> dict[str, float | None]:
    return {group: rate if group in training else None for group, rate in rates.items()}
