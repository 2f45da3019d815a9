"""The stages of fine-tuning an encoder: what is read, which rates its layers get, and the training of one model.

`jaxft.finetune` runs them in a folder, for one split or for the folds of a cross-validation, and `jaxft.finetune.ladder` for one
technique after another.

References:
    Zhang et al., Revisiting Few-sample BERT Fine-tuning, ICLR 2021; Howard & Ruder, ACL 2018; Izmailov et al., UAI
    2018.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.data.examples import (
    DEV,
    TEST,
    TRAIN,
    Examples,
    Task,
    carve,
    read_examples,
    strata,
    stratified_folds,
    stratified_sample,
)
from jaxft.data.hub import checkpoint_folder
from jaxft.data.pieces import Pieces, encode, load_tokenizer
from jaxft.data.streams import LengthBatches
from jaxft.errors import InputError
from jaxft.finetune.scores import is_better, score_of, scores_of
from jaxft.finetune.settings import Settings, Training
from jaxft.inference.answers import as_scores
from jaxft.inference.batches import piece_batches
from jaxft.inference.encoder import EncoderModel, encoder_inputs, encoder_outputs_fn
from jaxft.models.bert import Encoder, encoder_rules, open_checkpoint, reinitialized
from jaxft.optim import averaging
from jaxft.optim.accumulation import accumulate_gradients
from jaxft.optim.adam import adam_warmup, bert_adamw
from jaxft.optim.groups import decay_mask, discriminative_rates, label_params, layerwise_decay_rates
from jaxft.optim.monitors import early_stopping, replay
from jaxft.optim.phases import Phase
from jaxft.training.stage import Run, StageResult, run_plan
from jaxft.training.train_step import LossFn

GROUPED_DIVISORS = (1.0, 2.0, 3.5)
"""of the upper, middle and lower third of the layers, in grouped layer-wise decay"""
WITHOUT_WARMUP = {"slanted_triangular", "one_cycle", "constant"}
"""schedules that take no number of steps of warm-up"""


@dataclass(frozen=True)
class Inputs:
    """What every model of a run starts from.

    Attributes:
        examples: with train, dev and test where there are any.
        pieces: of the texts of all examples.
        folder: of the checkpoint.
        encoder: the checkpoint, with a new head for the task.
        tokenizer: that of the checkpoint.
    """

    examples: Examples
    pieces: Pieces
    folder: Path
    encoder: Encoder
    tokenizer: Any


@dataclass(frozen=True)
class Split:
    """Numbers of examples to train with, to choose by, and to score with."""

    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray


def read_inputs(settings: Settings) -> Inputs:
    """Reads examples and checkpoint, and carves the splits that the data do not have.

    Raises:
        InputError: bad data or no checkpoint, or one that does not fit the flags; the sentence names file and row, or
            the flag.
    """
    examples = read_examples(
        settings.data,
        settings.task,
        text_column=settings.text_column,
        pair_column=settings.pair_column,
        label_column=settings.label_column,
        split_column=settings.split_column,
    )
    examples = carve(
        examples,
        dev=0.0 if settings.folds else settings.dev_fraction,
        test=0.0 if settings.folds else settings.test_fraction,
        limit=settings.limit_labels,
        seed=settings.seed,
    )
    folder = checkpoint_folder(settings.model)
    tokenizer = load_tokenizer(folder)
    encoder = open_checkpoint(
        folder,
        max(1, len(examples.classes)),
        precision=settings.precision,
        seed=settings.seed,
        dropout=settings.train.dropout,
        new_head=True,
    )
    config = encoder.config
    if settings.train.reinit_layers > config.num_layers:
        raise InputError(
            f"--train.reinit-layers {settings.train.reinit_layers} are more than the {config.num_layers} layers of the "
            "model: give fewer"
        )
    if settings.max_length > config.longest:
        raise InputError(
            f"--max-length {settings.max_length} is beyond what the model reads: give at most {config.longest}"
        )
    pieces = encode(tokenizer, examples.texts, settings.max_length)
    if pieces.ids.max() >= config.vocab_size:
        raise InputError(
            f"the tokenizer in {folder} has the piece {pieces.ids.max()} and the model only {config.vocab_size}: name "
            "a folder in which both belong together"
        )
    return Inputs(examples, pieces, folder, encoder, tokenizer)


def splits(examples: Examples, settings: Settings) -> dict[str, Split]:
    """What each model of the run is trained, chosen and scored with, by the name of its stage.

    Of a cross-validation, every fold is the test of one model; its dev texts come from the other folds.

    Raises:
        InputError: too few examples, or slices of --train.accumulation that do not divide them.
    """
    if not settings.folds:
        found = {"train": Split(examples.of(TRAIN), examples.of(DEV), examples.of(TEST))}
    else:
        own = np.flatnonzero(examples.splits != TEST)
        groups, rng = strata(examples.targets[own]), np.random.default_rng(settings.seed)
        folds, found = stratified_folds(groups, settings.folds, rng), {}
        for fold in range(settings.run_folds or settings.folds):
            rest = np.flatnonzero(folds != fold)
            count = max(1, round(settings.dev_fraction * len(rest)))
            dev = stratified_sample(groups[rest], min(count, len(rest)), rng)
            found[f"fold_{fold + 1}"] = Split(own[rest[~dev]], own[rest[dev]], own[folds == fold])
    for part in found.values():
        if not len(part.train) or not len(part.dev) or (settings.folds and not len(part.test)):
            raise InputError(
                f"{len(examples.texts)} examples are too few: give more, or fewer --folds, or a smaller --dev-fraction"
            )
        size = min(settings.train.batch_size, len(part.train))
        if size % settings.train.accumulation:
            raise InputError(
                f"--train.accumulation {settings.train.accumulation} does not divide a batch of {size} texts, all that "
                "there are: give a number that does"
            )
    return found


def train_encoder(
    inputs: Inputs, split: Split, settings: Settings, run: Run | None = None, stage: str = "train"
) -> StageResult:
    """Trains one model and keeps the evaluation that scored best, or the last.

    Args:
        inputs: from `read_inputs`.
        split: which examples it learns from, and which it is chosen by.
        settings: `settings.train` and the rest.
        run: run folder to log to and resume from; None keeps nothing.
        stage: name in the log and in file names.

    Returns:
        Parameters whose head gives numbers in their own unit; the report has the scores on the dev texts.

    Raises:
        InputError: losses that stay not finite.
        Stopped: the run was asked to stop.
    """
    train, examples, task, encoder = settings.train, inputs.examples, settings.task, inputs.encoder
    params = reinitialized(encoder, train.reinit_layers, settings.seed) if train.reinit_layers else encoder.params
    centre, spread = _unit(examples, split)
    labels = examples.targets
    if task == "regression":
        labels = ((labels - centre) / spread).astype(np.float32)
    batches = _batches(inputs, split.train, labels, train.batch_size)
    held_out = _batches(inputs, split.dev, labels, train.eval_batch_size)
    outputs = jax.jit(encoder_outputs_fn(encoder))
    targets = examples.targets[split.dev]
    loss = partial(losses, task)

    def evaluate(params: Any, carry: Any) -> dict[str, float]:
        found = held_out.map(partial(outputs, params))
        mean = float(loss(jnp.asarray(found), jnp.asarray(labels[split.dev])).mean())
        scores = scores_of(task, targets, as_scores(task, found * spread + centre), examples.classes)
        return {"loss": mean, **{name: value for name, value in scores.items() if isinstance(value, float)}}

    plan = finetune_plan(train, encoder.config.num_layers, batches.steps_per_epoch)
    result = run_plan(
        run or Run(None),
        stage,
        plan,
        loss_fn=encoder_loss(encoder, task, train.label_smoothing),
        optimizer=_optimizer(train),
        labels=label_params(params, encoder_rules(encoder.config.num_layers)),
        clip_norm=train.clip_norm,
        params=params,
        carry=(),
        key=jax.random.fold_in(jax.random.key(settings.seed), 3),
        batch=lambda step: batches.training_batch(step, settings.seed),
        steps_per_epoch=batches.steps_per_epoch,
        tokens_per_epoch=int(inputs.pieces.lengths[split.train].mean() * batches.steps_per_epoch * train.batch_size),
        evaluate=evaluate,
        average=_average(train, plan, batches.steps_per_epoch),
        gradient=partial(accumulate_gradients, num_microbatches=train.accumulation, weight="examples"),
        evaluate_every=train.evaluate_every,
        keep=partial(_is_best, task) if train.keep == "best" else None,
        stop=None if train.patience is None else partial(_is_over, task, train.patience),
    )
    return replace(result, params=_in_own_unit(result.params, centre, spread))


def as_model(inputs: Inputs, settings: Settings, params: Any) -> EncoderModel:
    """The finished model of a stage's parameters."""
    return EncoderModel(
        encoder=replace(inputs.encoder, params=params),
        tokenizer=inputs.tokenizer,
        task=settings.task,
        classes=inputs.examples.classes,
        max_length=settings.max_length,
        pairs=settings.pair_column is not None,
        batch_size=settings.train.eval_batch_size,
    )


def scores_on(model: EncoderModel, inputs: Inputs, examples: np.ndarray) -> np.ndarray:
    """Probabilities, or numbers, (N, C) of some of the examples, in their order."""
    labels = np.zeros(len(inputs.examples.texts), np.int32)
    return model.scores_of_batches(_batches(inputs, examples, labels, model.batch_size))


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


def finetune_plan(train: Training, num_layers: int, steps_per_epoch: int) -> tuple[Phase, ...]:
    """The phases of training, in epochs of so many steps.

    Examples:
        >>> [(p.name, p.epochs, p.schedule) for p in finetune_plan(Training(epochs=5, swa_start=3), 2, 100)]
        [('all', 3, 'linear'), ('swa', 2, 'constant')]
    """
    rates = group_rates(train, num_layers)
    groups = list(rates)

    def phase(name: str, trained: Sequence[str], epochs: int, span: int | None = None) -> Phase:
        steps = (span or epochs) * steps_per_epoch
        warmup = int(train.warmup if train.warmup >= 1 else train.warmup * steps)
        options = {} if train.schedule in WITHOUT_WARMUP else {"warmup_steps": min(warmup, steps)}
        own = {group: rates[group] if group in trained else None for group in groups}
        return Phase(name, own, epochs, train.schedule, options, span)

    if train.unfreeze == "head":
        return (phase("head", groups[-1:], train.epochs),)
    opening = range(1, len(groups)) if train.unfreeze == "gradual" else ()
    phases = [phase(f"last {top}", groups[-top:], 1) for top in opening]
    if train.swa_start is None:
        return (*phases, phase("all", groups, train.epochs))
    top = train.peak_rate / 2 if train.swa_rate is None else train.swa_rate
    averaged = {g: top if train.swa_one_rate else rate * top / train.peak_rate for g, rate in rates.items()}
    last = Phase("swa", averaged, train.epochs - train.swa_start, "constant")
    return (*phases, phase("all", groups, train.swa_start, span=train.epochs), last)


def encoder_loss(encoder: Encoder, task: Task, label_smoothing: float = 0.0) -> LossFn:
    """The mean loss over a batch, for `jaxft.make_train_step`; a key turns dropout on."""

    def loss_fn(params: Any, carry: Any, batch: Mapping[str, Any], key: jax.Array | None) -> Any:
        outputs = encoder.apply(params, *encoder_inputs(encoder, batch), key=key)["logits"]
        found = losses(task, outputs, jnp.asarray(batch["labels"]), label_smoothing)
        return found.mean(), (carry, {"examples": jnp.float32(found.size)})

    return loss_fn


def losses(task: Task, outputs: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """(B,): squared error of numbers, cross-entropy of classes, or the sum of that of labels.

    Args:
        task: what a label is.
        outputs: (B, C) float32.
        labels: (B,) int32 or float32, or (B, C) float32.
        label_smoothing: as in `optax.smooth_labels`.
    """
    if task == "regression":
        return optax.squared_error(outputs[:, 0], labels)
    if task == "multilabel":
        return optax.sigmoid_binary_cross_entropy(outputs, labels).sum(axis=1)
    if label_smoothing:
        return optax.softmax_cross_entropy(
            outputs, optax.smooth_labels(jax.nn.one_hot(labels, outputs.shape[1]), label_smoothing)
        )
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def _optimizer(train: Training) -> optax.GradientTransformation:
    exclude = ("bias", "norm")
    match train.optimizer:
        case "adamw":
            return optax.adamw(1.0, weight_decay=train.weight_decay, mask=decay_mask(exclude))
        case "bert_adamw":
            return bert_adamw(1.0, train.weight_decay, exclude=exclude)
        case "adam_warmup":  # its rate is 1 throughout, as the schedule of the phase makes it
            rate = {"learning_rate": 1.0, "warmup_steps": 0, "decay_steps": 1, "min_lr": 1.0}
            return adam_warmup(**rate, weight_decay=train.weight_decay, weight_decay_pattern=("kernel$", "embedding$"))


def _average(train: Training, plan: Sequence[Phase], steps_per_epoch: int) -> averaging.Average | None:
    if train.ema_decay is not None:
        return averaging.ema(train.ema_decay)
    if train.swa_start is not None:
        return averaging.swa(sum(phase.epochs for phase in plan[:-1]) * steps_per_epoch)
    return None


def _unit(examples: Examples, split: Split) -> tuple[float, float]:
    """Mean and standard deviation of the training numbers; 0 and 1 where targets are not numbers."""
    own = examples.targets[split.train]
    return (0.0, 1.0) if examples.classes else (float(own.mean()), float(own.std()) or 1.0)


def _in_own_unit(params: Any, centre: float, spread: float) -> Any:
    """Parameters whose outputs are `outputs * spread + centre`."""
    out = params["head"]["out"]
    moved = {"kernel": out["kernel"] * spread, "bias": out["bias"] * spread + centre}
    return {**params, "head": {**params["head"], "out": moved}}


def _batches(inputs: Inputs, examples: np.ndarray, labels: np.ndarray, batch_size: int) -> LengthBatches:
    return piece_batches(inputs.pieces, examples, labels, batch_size, inputs.pieces.widths())


def _is_best(task: Task, evaluations: Sequence[Mapping[str, Any]]) -> bool:
    *before, last = (evaluation[score_of(task)] for evaluation in evaluations)
    return math.isfinite(last) and all(is_better(task, last, other) for other in before if math.isfinite(other))


def _is_over(task: Task, patience: int, evaluations: Sequence[Mapping[str, Any]]) -> bool:
    monitor = early_stopping(patience, mode="min" if task == "regression" else "max")
    return bool(replay(monitor, (evaluation[score_of(task)] for evaluation in evaluations)).stop)
