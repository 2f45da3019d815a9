"""The stages of sequence labelling: what is read, and the training of one tagger.

`jaxft.ner` runs them in a folder, for one schedule or for several that are compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from jaxft.data.spans import entity_scores
from jaxft.data.streams import quantile_widths
from jaxft.inference.batches import window_batches
from jaxft.inference.tagger import EntityTagger, decode_tags
from jaxft.ner.inputs import Inputs
from jaxft.ner.settings import Settings, Training
from jaxft.optim import averaging
from jaxft.optim.adversarial import fast_gradient_method
from jaxft.optim.groups import decay_mask, label_params
from jaxft.optim.monitors import early_stopping, plateau, replay
from jaxft.optim.phases import Phase
from jaxft.training.stage import Run, StageResult, run_plan

SCORE = "micro_f1"
"""what chooses an epoch and a run"""
ENCODER_GROUP, HEAD_GROUP, UNUSED_GROUP = "encoder", "head", "pooler"
RULES = [("encoder/pooler/.*", UNUSED_GROUP), ("encoder/.*", ENCODER_GROUP), ("tagger/.*", HEAD_GROUP)]


def ner_plan(settings: Settings, encoder: bool, steps_per_epoch: int) -> tuple[Phase, ...]:
    """The one phase of training, in epochs of so many steps.

    Examples:
        >>> plan = ner_plan(Settings(schedule="plateau"), False, 100)
        >>> plan[0].schedule, plan[0].rates
        ('constant', {'head': 0.0001})
    """
    train = settings.train
    rates: dict[str, float | None] = {HEAD_GROUP: train.head_rate or train.peak_rate}
    if encoder:
        rates = {UNUSED_GROUP: None, ENCODER_GROUP: train.peak_rate, **rates}
    total = train.epochs * steps_per_epoch
    options: dict[str, float | str] = {}
    if settings.schedule in ("keras_bert", "linear", "cosine"):
        options["warmup_steps"] = int(train.warmup * total)
    if settings.schedule == "keras_bert":
        options["min_value"] = train.min_rate / train.peak_rate
    schedule = "constant" if settings.schedule == "plateau" else settings.schedule
    return (Phase(settings.schedule, rates, train.epochs, schedule, options),)


def train_tagger(
    inputs: Inputs, settings: Settings, run: Run | None = None, stage: str = "train", seed: int = 0
) -> StageResult:
    """Trains one tagger and keeps the epoch that was best on dev.

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
    train, fns, pieces = settings.train, inputs.fns, inputs.pieces["train"]
    params = fns.init(seed)
    batches = window_batches(pieces, np.arange(len(pieces.lengths)), train.batch_size, quantile_widths(pieces.lengths))
    decode, loss = jax.jit(fns.decode), jax.jit(lambda params, batch: fns.loss(params, (), batch, None))

    def evaluate(params: Any, carry: Any) -> dict[str, float]:
        scores = scores_on(inputs, "dev", decode, params, train.eval_batch_size)
        numbers = {name: value for name, value in scores.items() if isinstance(value, float)}
        return {"loss": _mean_loss(inputs, loss, params, train.eval_batch_size), **numbers}

    optimizer = optax.adamw(1.0, weight_decay=train.weight_decay, mask=decay_mask(("bias", "norm", "crf")))
    method = partial(
        fast_gradient_method,
        epsilon=train.fgm,
        pattern="^tagger/embedding" if fns.encoder is None else "^encoder/embeddings/word/",
    )
    return run_plan(
        run or Run(None),
        stage,
        ner_plan(settings, fns.encoder is not None, batches.steps_per_epoch),
        loss_fn=fns.loss,
        optimizer=optimizer,
        labels=label_params(params, [rule for rule in RULES if _matches(rule, params)]),
        clip_norm=train.clip_norm,
        params=params,
        carry=(),
        key=jax.random.fold_in(jax.random.key(seed), 4),
        batch=lambda step: batches.training_batch(step, seed),
        steps_per_epoch=batches.steps_per_epoch,
        tokens_per_epoch=int((pieces.tags >= 0).mean() * pieces.lengths.mean() * batches.steps_per_epoch)
        * min(train.batch_size, len(pieces.lengths)),
        evaluate=evaluate,
        average=None if train.ema_decay is None else averaging.ema(train.ema_decay),
        gradient=method if train.fgm else None,
        factor=partial(_plateau_factor, train) if settings.schedule == "plateau" else None,
        keep=_is_best,
        stop=None if train.patience is None else partial(_is_over, train.patience),
    )


def scores_on(inputs: Inputs, part: str, decode: Any, params: Any, batch_size: int) -> dict[str, Any]:
    """Precision, recall and F1 of the entities of dev or test; see `jaxft.data.spans.entity_scores`."""
    pieces = inputs.pieces[part]
    widths = quantile_widths(pieces.lengths)
    found = decode_tags(decode, params, inputs.fns.config.tags, pieces, batch_size, widths)
    return entity_scores([sentence.tags for sentence in inputs.sentences[part]], found)


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


def _mean_loss(inputs: Inputs, loss: Any, params: Any, batch_size: int) -> float:
    """Nats per token of the dev sentences."""
    pieces = inputs.pieces["dev"]
    windows = np.arange(len(pieces.lengths))
    batches = window_batches(pieces, windows, min(batch_size, len(windows)), quantile_widths(pieces.lengths))
    total, tokens = 0.0, 0.0
    for positions in batches.evaluation_batches():
        batch = dict(batches.evaluation_batch(positions))
        batch["tags"][len(positions) :] = -1  # copies that fill the batch up
        value, (_, metrics) = loss(params, batch)
        total += float(value) * float(metrics["tokens"])
        tokens += float(metrics["tokens"])
    return total / tokens


def _matches(rule: tuple[str, str], params: Any) -> bool:
    pattern, _ = rule
    if pattern.startswith("tagger"):
        return True
    return "encoder" in params and ("pooler" not in pattern or "pooler" in params["encoder"])


def _is_best(evaluations: Sequence[Mapping[str, Any]]) -> bool:
    *before, last = (evaluation[SCORE] for evaluation in evaluations)
    return all(last > other for other in before)


def _is_over(patience: int, evaluations: Sequence[Mapping[str, Any]]) -> bool:
    return bool(replay(early_stopping(patience, mode="max"), _scores(evaluations)).stop)


def _plateau_factor(train: Training, evaluations: Sequence[Mapping[str, Any]]) -> float:
    monitor = plateau(
        train.plateau_factor,
        train.plateau_patience,
        train.plateau_min_delta,
        min_lr=train.plateau_min_rate / train.peak_rate,
        mode="max",
    )
    return float(replay(monitor, _scores(evaluations)).rate)


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    return (evaluation[SCORE] for evaluation in evaluations)
