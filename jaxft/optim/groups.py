"""Parameter groups: ordered path rules that give every parameter a label, and the learning rate of each group.

Called once, outside the training step, by the jobs and by anyone with a pytree of parameters: nested dicts, Flax NNX
states, Linen collections, Equinox modules, dataclasses. `label_params` turns rules into the labels that
`jaxft.discriminative` (or `optax.multi_transform`) takes, the two `*_rates` functions turn an order of groups, bottom
to top, into rates, and `describe` prints what came of it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import jax

PyTree = Any
Rules = Mapping[str, str] | Iterable[tuple[str, str]]


def label_params(params: PyTree, rules: Rules) -> PyTree:
    """Gives every parameter the label of the first rule whose pattern matches its whole path.

    A path joins keys, attribute names and positions by slashes: `encoder/layer/0/attention/query/kernel`. The
    `/value` that JAX adds for the inside of a Flax NNX variable is left out, so that a model has the same paths as
    state and as plain dict.

    Args:
        params: any pytree of parameters; its leaves are not looked at.
        rules: ordered pairs of a regular expression and a label, or a mapping from one to the other. A pattern is
            matched against the whole path (`re.fullmatch`).

    Returns:
        A pytree of strings with the structure of `params`.

    Raises:
        ValueError: where a parameter matches no rule; the message lists those paths and the rules that matched
            nothing.

    Examples:
        >>> params = {"embed": {"kernel": 1.0}, "layers": [{"kernel": 2.0}, {"kernel": 3.0}], "head": {"bias": 4.0}}
        >>> label_params(params, [("embed/.*", "embed"), (r"layers/(0|1)/.*", "layers"), (".*", "head")])
        {'embed': {'kernel': 'embed'}, 'head': {'bias': 'head'}, 'layers': [{'kernel': 'layers'}, {'kernel': 'layers'}]}
    """
    pairs = _pairs(rules)
    matches = _match(params, pairs)
    if uncovered := [path for path, rule in matches if rule is None]:
        used = {rule for _, rule in matches}
        idle = [repr(pattern) for rule, (pattern, _) in enumerate(pairs) if rule not in used]
        raise ValueError(
            f"no rule covers {', '.join(uncovered)}; "
            + (f"rules that match nothing: {', '.join(idle)}" if idle else "every rule matches something")
        )
    labels = [pairs[rule][1] for _, rule in matches if rule is not None]
    return jax.tree.unflatten(jax.tree.structure(params), labels)


def path_names(tree: PyTree) -> list[str]:
    """The path of every leaf as `a/b/0/c`, in the order of the leaves; what an NNX variable holds has its path."""
    return [
        jax.tree_util.keystr(path + inside[1:], simple=True, separator="/")
        for path, node in jax.tree.leaves_with_path(tree, is_leaf=_is_nnx_variable)
        for inside, _ in jax.tree.leaves_with_path(node)
    ]


def discriminative_rates(groups: Sequence[str], peak_rate: float, divisor: float = 2.6) -> dict[str, float]:
    r"""Discriminative fine-tuning: each group learns at a fixed fraction of the rate of the group above it.

    $$\eta^{(l - 1)} = \eta^{(l)} / 2.6, \qquad \eta^{(L)} = peak\_rate.$$

    Args:
        groups: names of the groups, bottom (next to the input) to top.
        peak_rate: the learning rate of the last group.
        divisor: how many times smaller each rate is than the one above; 1 gives one rate for all.

    Returns:
        The learning rate of each group, bottom to top.

    Raises:
        ValueError: where groups repeat or are missing, or a number is not positive.

    Examples:
        >>> {group: round(rate, 6) for group, rate in discriminative_rates(["embed", "lstm", "head"], 0.01).items()}
        {'embed': 0.001479, 'lstm': 0.003846, 'head': 0.01}

    References:
        Howard and Ruder, `Universal Language Model Fine-tuning for Text Classification
        <https://arxiv.org/abs/1801.06146>`_, 2018, section 3.2.
    """
    _check_groups(groups)
    if not (peak_rate > 0.0 and divisor > 0.0):
        raise ValueError(f"peak_rate and divisor are positive, not {peak_rate} and {divisor}")
    top = len(groups) - 1
    return {group: peak_rate / divisor ** (top - depth) for depth, group in enumerate(groups)}


def layerwise_decay_rates(
    groups: Sequence[str],
    top_rate: float,
    decay: float = 0.9,
    head: str | None = None,
    head_rate: float | None = None,
) -> dict[str, float]:
    r"""Layer-wise learning rate decay for transformers: rates shrink geometrically towards the input.

    $$\eta^{(l)} = top\_rate \cdot decay^{L - l}$$ for the groups without the head, which has a rate of its own.

    Args:
        groups: names of the groups, bottom to top, head included where `head` names it.
        top_rate: the learning rate of the last group that is not the head.
        decay: factor from one group to the group below, at most 1.
        head: the group outside the progression, or `None`.
        head_rate: learning rate of `head`; `top_rate` where not given.

    Returns:
        The learning rate of each group, in the order of `groups`.

    Raises:
        ValueError: where groups repeat or are missing, or a number is out of its range.

    Examples:
        >>> rates = layerwise_decay_rates(["embed", "layer_0", "layer_1", "head"], 3.5e-6, 0.9, "head", 3.6e-6)
        >>> {group: float(f"{rate:.4g}") for group, rate in rates.items()}
        {'embed': 2.835e-06, 'layer_0': 3.15e-06, 'layer_1': 3.5e-06, 'head': 3.6e-06}

    References:
        Zhang et al., `Revisiting Few-sample BERT Fine-tuning <https://arxiv.org/abs/2006.05987>`_, 2021.
    """
    _check_groups(groups)
    if not (top_rate > 0.0 and 0.0 < decay <= 1.0):
        raise ValueError(f"top_rate is positive and decay between 0 and 1, not {top_rate} and {decay}")
    if head is not None and head not in groups:
        raise ValueError(f"head {head!r} is none of the groups {', '.join(groups)}")
    if head_rate is not None and (head is None or not head_rate > 0.0):
        raise ValueError(f"head_rate is the positive rate of the group that head names, not {head_rate}")
    body = [group for group in groups if group != head]
    rates = {group: top_rate * decay ** (len(body) - 1 - depth) for depth, group in enumerate(body)}
    return {group: rates.get(group, top_rate if head_rate is None else head_rate) for group in groups}


def decay_mask(
    exclude: Sequence[str] = ("LayerNorm", "layer_norm", "bias"), include: Sequence[str] | None = None
) -> Callable[[PyTree], PyTree]:
    """Which parameters decay: a mask for optax's `add_decayed_weights`, `adamw` and others.

    Args:
        exclude: regular expressions; a parameter does not decay where one is found anywhere in its path.
        include: regular expressions; where given, only parameters whose path has one of them decay.

    Returns:
        A function from parameters to a pytree of bools with the same structure.

    Raises:
        ValueError: for a string in place of a sequence, which would be read letter by letter.

    Examples:
        >>> decay_mask()({"dense": {"kernel": 1.0, "bias": 2.0}, "LayerNorm": {"scale": 3.0}})
        {'LayerNorm': {'scale': False}, 'dense': {'bias': False, 'kernel': True}}
    """
    for patterns in (exclude, include):
        if isinstance(patterns, str):
            raise ValueError(f"what decays is told by a sequence of patterns, not the string {patterns!r}")

    def decays(path: str) -> bool:
        wanted = include is None or any(re.search(pattern, path) for pattern in include)
        return wanted and not any(re.search(pattern, path) for pattern in exclude)

    return lambda params: jax.tree.unflatten(jax.tree.structure(params), map(decays, path_names(params)))


def describe(
    params: PyTree,
    rules: Rules,
    rates: Mapping[str, float | None] | None = None,
    mask: Callable[[PyTree], PyTree] | None = None,
) -> str:
    """A table of the groups for a person to read before training: rate, decay, parameters, and which rule chose them.

    Args:
        params: parameters, or their shapes (`jax.eval_shape`).
        rules: the rules given to `label_params`.
        rates: learning rate per group, `None` for a frozen one; the column is left out without it.
        mask: what was given to the optimizer as weight-decay mask, for example `decay_mask()`; the column counts the
            parameters that decay and is left out without it.

    Returns:
        One line per group and rule, and a last line for rules that match nothing.

    Raises:
        ValueError: where a parameter matches no rule, or a group has no rate.

    Examples:
        >>> params = {"body": {"kernel": jax.numpy.ones((4, 8)), "bias": jax.numpy.ones(8)}, "head": jax.numpy.ones(8)}
        >>> rules = [("body/.*", "body"), ("head", "head")]
        >>> print(describe(params, rules, {"body": None, "head": 0.01}, decay_mask()))
        group    rate  decayed  parameters  rule
        body   frozen       32          40  body/.*
        head     0.01        8           8  head
    """
    pairs = _pairs(rules)
    labels = set(jax.tree.leaves(label_params(params, pairs)))
    groups = list(dict.fromkeys(label for _, label in pairs if label in labels))
    if rates is not None and (missing := [group for group in groups if group not in rates]):
        raise ValueError(f"groups without a rate: {', '.join(missing)}")
    matches = [rule for _, rule in _match(params, pairs)]
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    decays = [True] * len(sizes) if mask is None else jax.tree.leaves(mask(params))
    rows = [["group", "rate", "decayed", "parameters", "rule"]]
    for rule, (pattern, group) in sorted(
        ((i, pair) for i, pair in enumerate(pairs) if i in matches), key=lambda item: groups.index(item[1][1])
    ):
        members = [(size, decay) for size, decay, match in zip(sizes, decays, matches, strict=True) if match == rule]
        rate = None if rates is None else rates[group]
        decayed = sum(size for size, decay in members if decay)
        total = sum(size for size, _ in members)
        rows.append([group, "frozen" if rate is None else f"{rate:.4g}", f"{decayed:,}", f"{total:,}", pattern])
    dropped = [i for i, absent in ((1, rates is None), (2, mask is None)) if absent]
    rows = [[cell for i, cell in enumerate(row) if i not in dropped] for row in rows]
    idle = [pattern for i, (pattern, _) in enumerate(pairs) if i not in matches]
    return table(rows) + (f"\nrules that match nothing: {', '.join(idle)}" if idle else "")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text: first and last column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    lines = [
        "  ".join(
            c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _pairs(rules: Rules) -> list[tuple[str, str]]:
    pairs = cast(Iterable[tuple[str, str]], rules.items() if isinstance(rules, Mapping) else rules)
    return list(pairs)


def _match(params: PyTree, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, int | None]]:
    """The path of every parameter, in the order of the leaves, and the position of the first rule that matches it."""
    patterns = [re.compile(pattern) for pattern, _ in pairs]
    return [(path, next((i for i, p in enumerate(patterns) if p.fullmatch(path)), None)) for path in path_names(params)]


def _is_nnx_variable(node: PyTree) -> bool:
    """Whether JAX names the inside of this node `value`; told by name, since nothing here imports Flax."""
    return any((t.__module__, t.__name__) == ("flax.nnx.variablelib", "Variable") for t in type(node).__mro__)


def _check_groups(groups: Sequence[str]) -> None:
    if isinstance(groups, str) or not groups or len(set(groups)) < len(groups):
        raise ValueError(f"groups are distinct names, bottom to top, not {groups!r}")
