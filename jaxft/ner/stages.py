"""The training of one tagger: plan, loss, evaluation, and the finished model of its parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from jaxft.base.sharding import by_rows, current_mesh, mesh_size, replicated
from jaxft.data.length_batches import quantile_widths
from jaxft.data.spans import entity_scores
from jaxft.inference.batches import window_batches
from jaxft.inference.tagger import EntityTagger, decode_tags
from jaxft.models.encoders import Encoder
from jaxft.ner.inputs import Inputs
from jaxft.ner.settings import Settings, Training
from jaxft.optim import averaging
from jaxft.optim.adversarial import fast_gradient_method
from jaxft.optim.groups import decay_mask, label_params
from jaxft.optim.monitors import plateau, replay
from jaxft.optim.phases import Phase, Plan
from jaxft.optim.whole_batch import value_and_grad
from jaxft.training.batches import Batches
from jaxft.training.run import Run, StageResult
from jaxft.training.selection import Evaluations, Selection, best_score, evaluate_every, out_of_patience
from jaxft.training.settings import check_steps, enough_epochs
from jaxft.training.stage import Stage, run_stage

SCORE = "micro_f1"
"""the score that chooses an epoch and a run"""
ENCODER_GROUP, HEAD_GROUP, UNUSED_GROUP = "encoder", "head", "pooler"
RULES = [("encoder/pooler/.*", UNUSED_GROUP), ("encoder/.*", ENCODER_GROUP), ("tagger/.*", HEAD_GROUP)]


def ner_plan(settings: Settings, encoder: Encoder | None, steps_per_epoch: int) -> Plan:
    """The one phase of training, for `steps_per_epoch` steps in an epoch.

    Examples:
        >>> plan = ner_plan(Settings(schedule="plateau"), None, 100)
        >>> plan[0].schedule, plan[0].rates
        ('constant', {'head': 0.0001})

    Raises:
        InputError: more steps than are counted.
    """
    train = settings.train
    rates: dict[str, float | None] = {HEAD_GROUP: train.head_rate or train.peak_rate}
    if encoder is not None:
        rates = {ENCODER_GROUP: train.peak_rate, **rates}
        rates = {UNUSED_GROUP: None, **rates} if encoder.config.pooler else rates
    epochs = enough_epochs(train.epochs, train.min_steps, steps_per_epoch)
    check_steps(epochs, steps_per_epoch, "train.epochs", "train.min_steps")
    total = epochs * steps_per_epoch
    options: dict[str, float | str] = {}
    if settings.schedule in ("keras_bert", "linear", "cosine"):
        options["warmup_steps"] = int(train.warmup * total)
    if settings.schedule == "keras_bert":
        options["min_value"] = train.min_rate / train.peak_rate
    schedule = "constant" if settings.schedule == "plateau" else settings.schedule
    return (Phase(settings.schedule, rates, epochs, schedule, options),)


def train_tagger(
    inputs: Inputs, settings: Settings, run: Run | None = None, stage: str = "train", seed: int = 0
) -> StageResult:
    """Trains one tagger and keeps the weights of the evaluation that is best on dev.

    Args:
        inputs: from `read_inputs`.
        settings: `settings.schedule`, `settings.train` and the rest.
        run: run folder to log to and resume from; None keeps nothing.
        stage: name in the log and in file names.
        seed: of weights, order and dropout.

    Raises:
        InputError: losses that stay not finite.
        Stopped: the run was asked to stop.
    """
    return run_stage(run or Run(None), tagger_stage(inputs, settings, stage, seed))


def tagger_stage(inputs: Inputs, settings: Settings, name: str = "train", seed: int = 0) -> Stage:
    """The stage that trains one tagger; the arguments are those of `train_tagger`."""
    train, fns, pieces = settings.train, inputs.fns, inputs.pieces["train"]
    params, count = fns.init(seed), len(pieces.lengths)
    batches = window_batches(pieces, np.arange(count), train.batch_size, quantile_widths(pieces.lengths))
    tokens_per_step = int((pieces.tags >= 0).mean() * pieces.lengths.mean() * batches.steps_per_epoch)
    return Stage(
        name=name,
        plan=ner_plan(settings, fns.encoder, batches.steps_per_epoch),
        make_loss_fn=lambda phase: fns.loss,
        optimizer=optax.adamw(1.0, weight_decay=train.weight_decay, mask=decay_mask(("bias", "norm", "crf"))),
        labels=label_params(params, RULES),
        clip_norm=train.clip_norm,
        params=params,
        carry=(),
        key=jax.random.fold_in(jax.random.key(seed), 4),
        batches=Batches(
            lambda step: batches.training_batch(step, seed),
            batches.steps_per_epoch,
            tokens_per_epoch=tokens_per_step * min(train.batch_size, count),
            part=lambda step, rows: batches.training_batch(step, seed, rows),
            rows=min(train.batch_size, count),
        ),
        evaluate=_evaluation(inputs, train.eval_batch_size),
        evaluate_every=evaluate_every(train.epochs, batches.steps_per_epoch, train.min_steps),
        selection=Selection(
            is_best=best_score(SCORE),
            is_over=out_of_patience(SCORE, train.patience),
            rate_scale=_plateau_scale(train) if settings.schedule == "plateau" else None,
        ),
        average=None if train.ema_decay is None else averaging.ema(train.ema_decay),
        value_and_grad=_adversarial(inputs, train.fgm) if train.fgm else partial(value_and_grad, weight="tokens"),
    )


def _evaluation(inputs: Inputs, batch_size: int) -> Callable[[Any, Any], dict[str, float]]:
    """Makes the function that measures loss and scores on the dev sentences."""
    fns = inputs.fns
    decode = by_rows(fns.decode)
    devices = mesh_size(current_mesh())
    rows = -(-min(batch_size, len(inputs.pieces["dev"].lengths)) // devices) * devices

    def loss_of_rows(params: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        value, (_, metrics) = fns.loss(params, (), batch, None)
        return value[None], metrics["tokens"][None]  # of each device

    loss = by_rows(loss_of_rows)

    def evaluate(params: Any, carry: Any) -> dict[str, float]:
        params = replicated(params)
        scores = part_scores(inputs, "dev", decode, params, batch_size)
        numbers = {name: value for name, value in scores.items() if isinstance(value, float)}
        return {"loss": _mean_loss(inputs, loss, params, rows), **numbers}

    return evaluate


def _adversarial(inputs: Inputs, epsilon: float) -> Any:
    embeddings = "^tagger/embedding" if inputs.fns.encoder is None else "^encoder/embeddings/word/"
    return partial(fast_gradient_method, epsilon=epsilon, pattern=embeddings, weight="tokens")


def part_scores(inputs: Inputs, part: str, decode: Any, params: Any, batch_size: int) -> dict[str, Any]:
    """Precision, recall and F1 of the entities of dev or test; see `jaxft.data.spans.entity_scores`."""
    pieces = inputs.pieces[part]
    widths = quantile_widths(pieces.lengths)
    predicted = decode_tags(decode, params, inputs.fns.config.tags, pieces, batch_size, widths)
    return entity_scores([sentence.tags for sentence in inputs.sentences[part]], predicted)


def as_model(inputs: Inputs, settings: Settings, params: Any) -> EntityTagger:
    """The finished model of a stage's parameters."""
    return EntityTagger(
        fns=inputs.fns,
        params=params,
        tokenizer=inputs.tokenizer,
        unit=inputs.unit,
        scheme=settings.scheme,
        max_length=settings.max_length,
        batch_size=settings.train.eval_batch_size,
    )


def _mean_loss(inputs: Inputs, loss: Any, params: Any, rows: int) -> float:
    """The mean loss per token of the dev sentences, in nats."""
    pieces = inputs.pieces["dev"]
    windows = np.arange(len(pieces.lengths))
    batches = window_batches(pieces, windows, rows, quantile_widths(pieces.lengths))
    total, tokens = 0.0, 0.0
    for positions in batches.evaluation_batches():
        batch = dict(batches.evaluation_batch(positions))
        batch["tags"][len(positions) :] = -1  # rows that only fill the batch up
        for mean, count in zip(*map(np.asarray, loss(params, batch)), strict=True):
            total += float(mean) * float(count) if count else 0.0
            tokens += float(count)
    return total / tokens


def _plateau_scale(train: Training) -> Callable[[Evaluations], float]:
    """Makes the function that gives the multiplier of the rates after the evaluations so far."""
    monitor = plateau(
        train.plateau_factor,
        train.plateau_patience,
        train.plateau_min_delta,
        min_lr=train.plateau_min_rate / train.peak_rate,
        mode="max",
    )
    return lambda evaluations: float(replay(monitor, (evaluation[SCORE] for evaluation in evaluations)).rate)
