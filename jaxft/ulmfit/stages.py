"""The stages of ULMFiT as plain functions; without a run folder they keep nothing, which suits a notebook.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from scipy.special import softmax

from jaxft.base.cores import on_cores
from jaxft.base.sharding import by_rows
from jaxft.data.carving import sample_with_folds
from jaxft.data.columns import Columns
from jaxft.data.document import UNLABELLED, Direction
from jaxft.data.length_batches import LengthBatches, length_widths
from jaxft.data.splits import Texts
from jaxft.errors import InputError
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.text_classifier import TextClassifier, classifier_logits_fn, results_of_texts
from jaxft.language_model.stage import (
    LANGUAGE_MODEL,
    adam,
    directions,
    encoder_config,
    fine_tune_lm,
    lm_plan,
    lm_stream,
    pretrain_lm,
    stage_name,
)
from jaxft.models.heads import Classifier, classification_loss, classifier_rules, with_linear_head
from jaxft.optim import unfreezing
from jaxft.optim.groups import label_params
from jaxft.optim.phases import Phase
from jaxft.training.batches import Batches
from jaxft.training.class_weights import class_weights
from jaxft.training.linear_head import FOLDS, PROBE_TEXTS, Head, solve_head
from jaxft.training.run import Run, StageResult
from jaxft.training.scores import default_metric, metric_mode, metric_score, score_name
from jaxft.training.selection import Evaluations, Selection, best_score, within_standard_error
from jaxft.training.settings import Metric, check_steps, enough_epochs
from jaxft.training.stage import Stage, run_stage
from jaxft.ulmfit.settings import SMALLEST_BATCH, HeadStart, Settings

__all__ = ["fine_tune_lm", "lm_plan", "plans", "predict", "pretrain_lm", "test_probabilities"]
__all__ += ["train_classifier"]

CLASSIFIER = "classifier"
"""the stage in logs and file names; see `stage_name`"""
SHARES: tuple[Metric, ...] = ("accuracy", "macro-f1", "weighted-f1")
"""metrics that are shares of texts, or means of shares, and so have a standard error"""


def train_classifier(
    texts: Texts,
    settings: Settings,
    lm_params: Any | None = None,
    run: Run | None = None,
    direction: Direction = "forward",
) -> tuple[TextClassifier, StageResult]:
    """Trains the classifier with gradual unfreezing, each phase with a schedule of its own.

    The weights of the last epoch within a standard error of the best dev score are kept, with a score that is no share
    of texts those of the best, and without dev texts the last ones.

    Args:
        texts: from `jaxft.ulmfit.inputs.read_texts`.
        settings: `settings.model` and `settings.classifier` are used, and the seed.
        lm_params: parameters of a language model, whose encoder is taken; None starts from random weights.
        run: run folder to log to and resume from; None keeps nothing.
        direction: direction in which the classifier and the language model read.

    Returns:
        The classifier, and the stage's result with the accuracy and loss on `texts.dev` after every epoch.

    Raises:
        InputError: losses that stay not finite, one text per step, or a solved head without room.
        Stopped: the run was asked to stop.
    """
    run = run or Run(None)
    _, params, _ = nnx.eval_shape(lambda: _random_classifier(texts, settings))
    with on_cores(_rows(texts, settings), params):
        result = run_stage(run, _starting_stage(texts, settings, lm_params, run, direction))
    return as_classifier(texts, settings, result, direction), result


def _starting_stage(texts: Texts, settings: Settings, lm_params: Any | None, run: Run, direction: Direction) -> Stage:
    # a stage that has begun goes on from its checkpoint, so its first head need not be solved again
    head = "random" if run.position(stage_name(CLASSIFIER, direction)) else settings.classifier.head
    graphdef, params, statistics = starting_classifier(texts, settings, lm_params, head, direction)
    return _classifier_stage(texts, settings, graphdef, params, statistics, direction)


def starting_classifier(
    texts: Texts, settings: Settings, lm_params: Any | None, head: HeadStart, direction: Direction = "forward"
) -> tuple[nnx.GraphDef, Any, Any]:
    """The graph, parameters and statistics that a classifier starts from; see `train_classifier`.

    Raises:
        InputError: as `check_head`, with the head "probe".
    """
    graphdef, params, statistics = _random_classifier(texts, settings)
    if lm_params is not None:
        params = {**params, "encoder": lm_params["encoder"]}
    if head == "probe":
        check_head(texts, settings)
        weights, read = _class_weights(texts, settings, texts.train), texts.in_direction(direction)
        params, statistics = _with_probe(read, settings, graphdef, params, statistics, weights)
    return graphdef, params, statistics


def check_head(texts: Texts, settings: Settings) -> None:
    """Refuses a head with too few hidden units to hold a solved one.

    Raises:
        InputError: naming the flag.
    """
    units, needed = settings.classifier.head_hidden, 2 * len(texts.store.classes)
    if units < needed:
        raise InputError(
            f"--classifier.head-hidden {units} cannot hold a solved head of {needed // 2} classes: give at least "
            f"{needed}, or leave out --classifier.head probe"
        )


def abstract_classifier_stage(texts: Texts, settings: Settings, direction: Direction = "forward") -> Stage:
    """The stage of a classifier with the shapes of its parameters alone, for `jaxft.training.stage.check_stage`."""
    graphdef, params, statistics = nnx.eval_shape(lambda: _random_classifier(texts, settings))
    return _classifier_stage(texts, settings, graphdef, params, statistics, direction)


def _classifier_stage(
    texts: Texts, settings: Settings, graphdef: nnx.GraphDef, params: Any, statistics: Any, direction: Direction
) -> Stage:
    """The stage that trains a classifier from its parameters and the statistics of its norms."""
    stage, read = settings.classifier, texts.in_direction(direction)
    batches = _training_batches(read, settings)
    documents = texts.classifier_train
    rows = _rows(texts, settings)
    words = int(texts.store.lengths[documents].mean() * (batches.steps_per_epoch * rows))
    loss_fn = classification_loss(graphdef, _class_weights(texts, settings, documents))
    metric = selection_metric(texts, settings)
    return Stage(
        name=stage_name(CLASSIFIER, direction),
        plan=classifier_plan(settings, batches.steps_per_epoch),
        make_loss_fn=lambda phase: loss_fn,
        optimizer=adam(stage.b1, stage.b2, stage.weight_decay),
        labels=label_params(params, classifier_rules(settings.model.num_layers)),
        clip_norm=stage.clip_norm,
        params=params,
        carry=statistics,
        key=jax.random.fold_in(jax.random.key(settings.seed), 2),
        batches=Batches(
            lambda step: batches.training_batch(step, settings.seed),
            batches.steps_per_epoch,
            tokens_per_epoch=words,
            part=lambda step, rows: batches.training_batch(step, settings.seed, rows),
            rows=rows,
        ),
        evaluate=_evaluation(read, settings, graphdef) if len(texts.dev) else None,
        selection=Selection(is_best=_is_best(metric, len(texts.dev))),
    )


def _rows(texts: Texts, settings: Settings) -> int:
    """The texts of a training step."""
    return min(settings.classifier.batch_size, len(texts.classifier_train))


def _evaluation(texts: Texts, settings: Settings, graphdef: nnx.GraphDef) -> Callable[[Any, Any], dict[str, float]]:
    """Makes the function that measures loss and scores on the dev texts."""
    dev = _evaluation_batches(texts, texts.dev, settings, settings.classifier.eval_batch_size)
    logits_fn, config = by_rows(classifier_logits_fn(graphdef)), encoder_config(texts, settings)
    labels, metric = texts.store.labels, selection_metric(texts, settings)
    score = score_name(metric)

    def evaluate(params: Any, statistics: Any) -> dict[str, float]:
        logits = results_of_texts(logits_fn, config, params, statistics, dev)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[texts.dev])
        accuracy = float((logits.argmax(axis=1) == labels[texts.dev]).mean())
        scores = {"loss": float(losses.mean()), "accuracy": accuracy}
        if score not in scores:
            scores[score] = metric_score(metric, labels[texts.dev], softmax(logits, axis=1))
        return scores

    return evaluate


def selection_metric(texts: Texts, settings: Settings) -> Metric:
    """The metric of the dev texts that chooses the weights."""
    return settings.metric or default_metric(texts.store.labels[texts.train], len(texts.store.classes))


def _class_weights(texts: Texts, settings: Settings, documents: np.ndarray) -> np.ndarray | None:
    """The weights of the classes in a loss over these documents."""
    return class_weights(settings.class_weights, texts.store.labels[documents], texts.store.classes)


def _with_probe(
    texts: Texts,
    settings: Settings,
    graphdef: nnx.GraphDef,
    params: Any,
    statistics: Any,
    class_weights: np.ndarray | None,
) -> tuple[Any, Any]:
    """Parameters and statistics with a head that is solved on the pooled states of at most `PROBE_TEXTS` texts."""
    labels = texts.store.labels[texts.train].astype(np.int32)
    keys = texts.store.keys[texts.train]
    chosen, folds = sample_with_folds(labels, PROBE_TEXTS, FOLDS, settings.seed, keys)

    @by_rows
    def pool(params: Any, statistics: Any, weights: Any, batch: Any) -> jax.Array:
        return nnx.merge(graphdef, params, statistics).pool(batch["tokens"], batch["lengths"], weights)

    batches = _evaluation_batches(texts, texts.train[chosen], settings, settings.classifier.eval_batch_size)
    features = results_of_texts(pool, encoder_config(texts, settings), params, statistics, batches)

    def solve(features: np.ndarray) -> Head:
        outputs = len(texts.store.classes)
        return solve_head("classification", features, labels[chosen], outputs, folds, class_weights)

    head, head_statistics = with_linear_head(params["head"], features, solve)
    return {**params, "head": head}, {**statistics, "head": head_statistics}


def _is_best(metric: Metric, dev_texts: int) -> Callable[[Evaluations], bool] | None:
    """What says whether the last evaluation is the best; None without dev texts."""
    if not dev_texts:
        return None
    if metric in SHARES:
        return within_standard_error(score_name(metric), dev_texts)
    return best_score(score_name(metric), metric_mode(metric))


def _random_classifier(texts: Texts, settings: Settings) -> tuple[nnx.GraphDef, Any, Any]:
    """The graph, parameters and statistics of a classifier for the classes of `texts`, drawn by the seed."""
    stage = settings.classifier
    dropouts = stage.dropout.scaled(stage.drop_mult)
    classifier = Classifier(
        encoder_config(texts, settings),
        len(texts.store.classes),
        dropouts,
        nnx.Rngs(settings.seed),
        head_hidden=stage.head_hidden,
        head_dropouts=(dropouts.output, stage.head_dropout),
        max_length=stage.max_length,
        bptt=settings.lm.bptt,
    )
    graphdef, params, statistics = nnx.split(classifier, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)


def as_classifier(
    texts: Texts, settings: Settings, result: StageResult, direction: Direction = "forward"
) -> TextClassifier:
    """The classifier that a finished classifier stage has trained."""
    return TextClassifier(
        config=encoder_config(texts, settings),
        classes=texts.store.classes,
        head_hidden=settings.classifier.head_hidden,
        max_length=settings.classifier.max_length,
        bptt=settings.lm.bptt,
        vocabulary=texts.store.vocabulary,
        params=result.params,
        statistics=result.carry,
        direction=direction,
        batch_size=settings.classifier.eval_batch_size,
        text_columns=Columns.of(settings).joined,
    )


def test_probabilities(model: TextClassifier, texts: Texts, settings: Settings) -> np.ndarray:
    """Class probabilities (N, C) float32 of `texts.test`, in its order."""
    read = texts.in_direction(model.direction)
    return model.scores_of_batches(_evaluation_batches(read, read.test, settings, model.batch_size))


def predict(model: TextClassifier | Ensemble, texts: Sequence[str]) -> np.ndarray:
    """Class probabilities (N, C) float32 of `texts`, in their order; columns are `model.classes`."""
    return model.scores(texts)


def classifier_plan(settings: Settings, steps_per_epoch: int) -> tuple[Phase, ...]:
    """The classifier's phases, as `settings.classifier.plan` names them, for `steps_per_epoch` steps in an epoch.

    Examples:
        >>> from jaxft.ulmfit.presets import PAPER
        >>> [(phase.name, phase.epochs) for phase in classifier_plan(PAPER, steps_per_epoch=390)]
        [('last 1', 1), ('last 2', 1), ('last 3', 1), ('last 4', 1), ('all', 4)]
    """
    stage = settings.classifier
    groups = [group for _, group in classifier_rules(settings.model.num_layers)]
    phase_epochs = enough_epochs(stage.phase_epochs, stage.phase_steps, steps_per_epoch)
    epochs = enough_epochs(stage.epochs, stage.phase_steps, steps_per_epoch)
    names = [f"classifier.{name}" for name in ("epochs", "phase_epochs", "phase_steps")]
    check_steps((len(groups) + 1) * max(phase_epochs, epochs), steps_per_epoch, *names)
    lengths = {"epochs_per_phase": phase_epochs, "final_epochs": epochs}
    match stage.plan:
        case "gradual":
            plan = unfreezing.gradual_unfreezing(
                groups, stage.peak_rate, stage.divisor, schedule=stage.schedule, **lengths
            )
        case "fastai":
            plan = unfreezing.fastai_unfreezing(groups, stage.peak_rate, stage.divisor, **lengths)
        case "chain-thaw":
            plan = unfreezing.chain_thaw(
                groups, stage.peak_rate, stage.peak_rate / 10, schedule=stage.schedule, **lengths
            )
        case "last":
            plan = unfreezing.last_layer(groups, stage.peak_rate, epochs, stage.schedule)
        case "full":
            plan = unfreezing.full(groups, stage.peak_rate, stage.divisor, epochs, stage.schedule)
    return tuple(_scaled(phase, stage.rate_decay**number) for number, phase in enumerate(plan))


def _scaled(phase: Phase, multiplier: float) -> Phase:
    return replace(phase, rates={group: rate and multiplier * rate for group, rate in phase.rates.items()})


def plans(texts: Texts, settings: Settings) -> dict[str, tuple[tuple[Phase, ...], int]]:
    """The phases of each stage that will be trained, and its steps per epoch.

    Raises:
        InputError: the texts are too few for a step.
    """
    plans = {}
    for direction in directions(settings.direction):
        if settings.lm.epochs and settings.language_model is None:
            steps = lm_stream(texts, settings, direction).steps_per_epoch
            plans[stage_name(LANGUAGE_MODEL, direction)] = (lm_plan(settings, steps), steps)
        steps = _training_batches(texts, settings).steps_per_epoch
        plans[stage_name(CLASSIFIER, direction)] = (classifier_plan(settings, steps), steps)
    return plans


def _training_batches(texts: Texts, settings: Settings) -> LengthBatches:
    documents = texts.classifier_train
    if _rows(texts, settings) < SMALLEST_BATCH:
        raise InputError(
            f"{texts.name} gives the classifier one text per step, which batch norm cannot learn from: give at least "
            f"{SMALLEST_BATCH} training texts, and --classifier.batch-size {SMALLEST_BATCH} or more"
        )
    # Each width is compiled anew for each phase, which takes as long as the padding of some 200 batches costs.
    buckets = min(3, 1 + len(documents) // 10_000)
    return _length_batches(texts, documents, settings, settings.classifier.batch_size, buckets)


def _evaluation_batches(texts: Texts, documents: np.ndarray, settings: Settings, batch_size: int) -> LengthBatches:
    return _length_batches(texts, documents, settings, batch_size)


def _length_batches(
    texts: Texts, documents: np.ndarray, settings: Settings, batch_size: int, buckets: int = 1
) -> LengthBatches:
    store = texts.store
    longest = int(store.lengths[np.concatenate([np.flatnonzero(store.splits != UNLABELLED), texts.pseudo])].max())
    widths = length_widths(longest, settings.classifier.max_length, settings.lm.bptt, buckets)
    pad = store.vocabulary.pad
    return LengthBatches(store.ids, store.offsets, documents, store.labels, batch_size, widths, pad)
