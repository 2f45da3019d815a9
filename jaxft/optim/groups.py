"""Parameter groups: rules that label every parameter by its path, and learning rates for the groups.

The functions take any pytree of parameters: nested dicts, Flax NNX states, Linen collections, Equinox modules,
dataclasses. Call them once, outside the training step. `label_params` makes the labels that `jaxft.discriminative` (or
`optax.multi_transform`) takes, `discriminative_rates` and `layerwise_decay_rates` make the learning rates, and
`describe` prints groups, rates and sizes as a table.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

PyTree = Any
Rules = Mapping[str, str] | Iterable[tuple[str, str]]


def label_params(params: PyTree, rules: Rules) -> PyTree:
    """Gives every parameter the label of the first rule whose pattern matches its whole path.

    A path joins keys, attribute names and positions by slashes: `encoder/layer/0/attention/query/kernel`. Paths leave
    out the `/value` that JAX adds inside a Flax NNX variable, so a model has the same paths as NNX state and as plain
    dict.

    Args:
        params: any pytree of parameters; only its structure matters.
        rules: ordered pairs of a regular expression and a label, or a mapping from one to the other. A pattern has to
            match the whole path (`re.fullmatch`).

    Returns:
        A pytree of strings with the structure of `params`.

    Raises:
        ValueError: if a parameter matches no rule; the message lists these paths and the rules that match nothing.

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
        remedy = f"correct the rules that match nothing, {', '.join(idle)}" if idle else "add a rule for them"
        raise ValueError(f"no rule covers {', '.join(uncovered)}: {remedy}")
    labels = [pairs[rule][1] for _, rule in matches if rule is not None]
    return jax.tree.unflatten(jax.tree.structure(params), labels)


def path_names(tree: PyTree) -> list[str]:
    """Lists the path of every leaf of a tree.

    Args:
        tree: any pytree.

    Returns:
        Paths such as `a/b/0/c`, in the order of the leaves; the array inside an NNX variable has the variable's path.

    Examples:
        >>> path_names({"layers": [{"kernel": 1.0}, {"kernel": 2.0}]})
        ['layers/0/kernel', 'layers/1/kernel']
    """
    return [
        jax.tree_util.keystr(path + inside[1:], simple=True, separator="/")
        for path, node in jax.tree.leaves_with_path(tree, is_leaf=_is_nnx_variable)
        for inside, _ in jax.tree.leaves_with_path(node)
    ]


def discriminative_rates(groups: Sequence[str], peak_rate: float, divisor: float = 2.6) -> dict[str, float]:
    r"""Learning rates for discriminative fine-tuning: each group has a fixed fraction of the rate of the one above.

    $$\eta^{(l - 1)} = \eta^{(l)} / divisor, \qquad \eta^{(L)} = peak\_rate.$$

    Args:
        groups: names of the groups, bottom (next to the input) to top.
        peak_rate: the learning rate of the last group.
        divisor: how many times smaller each rate is than the one above; 1 gives all groups the same rate.

    Returns:
        The learning rate of each group, bottom to top.

    Raises:
        ValueError: if groups repeat, there are none, or a number is not positive.

    Examples:
        >>> {group: round(rate, 6) for group, rate in discriminative_rates(["embed", "lstm", "head"], 0.01).items()}
        {'embed': 0.001479, 'lstm': 0.003846, 'head': 0.01}

    References:
        Howard and Ruder, `Universal Language Model Fine-tuning for Text Classification
        <https://arxiv.org/abs/1801.06146>`_, 2018, section 3.2.
    """
    _check_groups(groups)
    if not (peak_rate > 0.0 and divisor > 0.0):
        raise ValueError(f"peak_rate and divisor are {peak_rate} and {divisor}: give positive numbers")
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

    $$\eta^{(l)} = top\_rate \cdot decay^{L - l}$$

    for group $l$ of $L$ groups, not counting the head, which has a separate rate.

    Args:
        groups: names of the groups, bottom to top, with the head if there is one.
        top_rate: the learning rate of the last group below the head.
        decay: factor from the rate of one group to that of the group below, above 0 and at most 1.
        head: name of the head among `groups`, or `None`.
        head_rate: learning rate of the head; by default `top_rate`.

    Returns:
        The learning rate of each group, in the order of `groups`.

    Raises:
        ValueError: if groups repeat, there are none, or a number is out of its range.

    Examples:
        >>> rates = layerwise_decay_rates(["embed", "layer_0", "layer_1", "head"], 3.5e-6, 0.9, "head", 3.6e-6)
        >>> {group: float(f"{rate:.4g}") for group, rate in rates.items()}
        {'embed': 2.835e-06, 'layer_0': 3.15e-06, 'layer_1': 3.5e-06, 'head': 3.6e-06}

    References:
        Zhang et al., `Revisiting Few-sample BERT Fine-tuning <https://arxiv.org/abs/2006.05987>`_, 2021.
    """
    _check_groups(groups)
    if not (top_rate > 0.0 and 0.0 < decay <= 1.0):
        raise ValueError(
            f"top_rate and decay are {top_rate} and {decay}: give a positive rate, and a decay above 0 up to 1"
        )
    if head is not None and head not in groups:
        raise ValueError(f"head {head!r} is none of the groups: choose from {', '.join(groups)}")
    if head_rate is not None and (head is None or not head_rate > 0.0):
        raise ValueError(f"head_rate is {head_rate} and head is {head!r}: give a positive rate together with head")
    body = [group for group in groups if group != head]
    rates = {group: top_rate * decay ** (len(body) - 1 - depth) for depth, group in enumerate(body)}
    return {group: rates.get(group, top_rate if head_rate is None else head_rate) for group in groups}


def decay_mask(
    exclude: Sequence[str] = ("LayerNorm", "layer_norm", "bias"), include: Sequence[str] | None = None
) -> Callable[[PyTree], PyTree]:
    """Makes a weight-decay mask for optax's `adamw`, `add_decayed_weights` and others.

    Args:
        exclude: regular expressions; a parameter does not decay if one of them is found in its path.
        include: regular expressions; if given, a parameter decays only if one of them is found in its path.

    Returns:
        A function from parameters to a pytree of bools with the same structure.

    Raises:
        ValueError: if an argument is a string and not a sequence of strings.

    Examples:
        >>> decay_mask()({"dense": {"kernel": 1.0, "bias": 2.0}, "LayerNorm": {"scale": 3.0}})
        {'LayerNorm': {'scale': False}, 'dense': {'bias': False, 'kernel': True}}
    """
    for name, patterns in (("exclude", exclude), ("include", include)):
        if isinstance(patterns, str):
            raise ValueError(f"{name} is the string {patterns!r}: give a sequence of patterns")

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
    """Formats the groups as a table, to check before training: learning rate, weight decay, size, and rule.

    Args:
        params: parameters, or their shapes (`jax.eval_shape`).
        rules: the rules of `label_params`.
        rates: learning rate of each group, `None` for a frozen group; without it the column is left out.
        mask: the weight-decay mask of the optimizer, for example `decay_mask()`. Its column has the number of
            parameters that decay; without it the column is left out.

    Returns:
        One line per group and rule, and a last line with the rules that match nothing.

    Raises:
        ValueError: if a parameter matches no rule, or a group has no rate.

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
        raise ValueError(f"rates miss the groups {', '.join(missing)}: give one entry per group")
    matches = [rule for _, rule in _match(params, pairs)]
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    decays = [True] * len(sizes) if mask is None else jax.tree.leaves(mask(params))
    rows = [["group", "rate", "decayed", "parameters", "rule"]]
    for rule, (pattern, group) in sorted(
        ((i, pair) for i, pair in enumerate(pairs) if i in matches), key=lambda item: groups.index(item[1][1])
    ):
        leaves = [(size, decay) for size, decay, match in zip(sizes, decays, matches, strict=True) if match == rule]
        rate = None if rates is None else rates[group]
        decayed = sum(size for size, decay in leaves if decay)
        total = sum(size for size, _ in leaves)
        rows.append([group, "frozen" if rate is None else f"{rate:.4g}", f"{decayed:,}", f"{total:,}", pattern])
    dropped = [i for i, absent in ((1, rates is None), (2, mask is None)) if absent]
    rows = [[cell for i, cell in enumerate(row) if i not in dropped] for row in rows]
    idle = [pattern for i, (pattern, _) in enumerate(pairs) if i not in matches]
    return table(rows) + (f"\nrules that match nothing: {', '.join(idle)}" if idle else "")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Formats rows of cells as aligned text.

    Args:
        rows: rows of the same number of cells.

    Returns:
        One line per row; the first and the last column are aligned left, the others right.

    Examples:
        >>> print(table([["phase", "epochs", "schedule"], ["all", "2", "constant"]]))
        phase  epochs  schedule
        all         2  constant
    """
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
    given: Any = rules.items() if isinstance(rules, Mapping) else rules
    pairs = [] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    for pair in pairs or [given]:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise ValueError(f"the rule {pair!r} is no pattern with a label: give pairs such as ('head/.*', 'head')")
        try:
            re.compile(pair[0])
        except re.error as error:
            raise ValueError(f"the pattern {pair[0]!r} is no regular expression ({error}): correct it") from error
    return [(pattern, label) for pattern, label in pairs]


def _match(params: PyTree, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, int | None]]:
    """The path of every parameter, in the order of the leaves, and the position of the first rule that matches it."""
    patterns = [re.compile(pattern) for pattern, _ in pairs]
    return [(path, next((i for i, p in enumerate(patterns) if p.fullmatch(path)), None)) for path in path_names(params)]


def _is_nnx_variable(node: PyTree) -> bool:
    """Whether the node is an NNX variable, by the name of its class: `jaxft.optim` does not import Flax."""
    return any((t.__module__, t.__name__) == ("flax.nnx.variablelib", "Variable") for t in type(node).__mro__)


def _check_groups(groups: Sequence[str]) -> None:
    if isinstance(groups, str) or not groups or len(set(groups)) < len(groups):
        raise ValueError(f"groups are {groups!r}: give distinct names, bottom to top")
