"""The training of one encoder: loss, optimizer, evaluation, and the finished model of its parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.base.sharding import by_rows, replicated
from jaxft.data.carving import sample_with_folds
from jaxft.data.columns import Columns
from jaxft.data.document import Task
from jaxft.data.examples import Examples
from jaxft.data.length_batches import LengthBatches
from jaxft.finetune.inputs import Inputs, Split
from jaxft.finetune.plan import finetune_plan
from jaxft.finetune.scores import selection_score, task_scores
from jaxft.finetune.settings import Settings, Training
from jaxft.inference.answers import as_scores
from jaxft.inference.batches import piece_batches
from jaxft.inference.encoder import EncoderModel, encoder_inputs, encoder_outputs_fn
from jaxft.models.encoders import Encoder, encoder_rules, reinitialized
from jaxft.optim import averaging
from jaxft.optim.accumulation import accumulate_gradients
from jaxft.optim.adam import adam_warmup, bert_adamw
from jaxft.optim.groups import decay_mask, label_params
from jaxft.optim.phases import Phase, Plan
from jaxft.optim.whole_batch import LossFn
from jaxft.training.batches import Batches
from jaxft.training.class_weights import class_weights
from jaxft.training.linear_head import FOLDS, PROBE_TEXTS, solve_head
from jaxft.training.run import Run, StageResult
from jaxft.training.scores import best_thresholds
from jaxft.training.selection import Selection, best_score, evaluate_every, out_of_patience
from jaxft.training.settings import MIN_DEV_TEXTS
from jaxft.training.stage import Stage, run_stage

EMA_DECAY = 0.98
"""decay of the average that is kept where the dev texts are too few to choose weights by"""


def train_encoder(
    inputs: Inputs, split: Split, settings: Settings, run: Run | None = None, stage: str = "train"
) -> StageResult:
    """Trains one model and keeps the weights of the best evaluation, or the last ones.

    Numbers are standardized for training; the head of the result gives them on their original scale.

    Args:
        inputs: from `read_inputs`.
        split: the examples to train with, and those to choose weights by.
        settings: `settings.train` and the rest.
        run: run folder to log to and resume from; None keeps nothing.
        stage: name in the log and in file names.

    Returns:
        The parameters; the report has the scores on the dev texts.

    Raises:
        InputError: losses that stay not finite.
        Stopped: the run was asked to stop.
    """
    run, params = run or Run(None), inputs.encoder.params
    if settings.train.reinit_layers:
        params = reinitialized(inputs.encoder, settings.train.reinit_layers, settings.seed)
    elif settings.train.head == "probe" and not run.position(stage):
        labels, weights = _standardized(inputs.examples, split), _class_weights(inputs, split.train, settings)
        params = with_probe(inputs, split.train, labels, params, settings, weights)
    result = run_stage(run, encoder_stage(inputs, split, settings, params, stage))
    return replace(result, params=_rescaled_head(result.params, *_mean_and_std(inputs.examples, split)))


def encoder_stage(inputs: Inputs, split: Split, settings: Settings, params: Any, name: str = "train") -> Stage:
    """The stage that trains one model from `params`; the other arguments are those of `train_encoder`."""
    train, task, encoder = settings.train, settings.task, inputs.encoder
    labels = _standardized(inputs.examples, split)
    batches = _batches(inputs, split.train, labels, train.batch_size)
    steps_per_epoch, num_layers = batches.steps_per_epoch, encoder.config.layer_groups
    rows = inputs.pieces.rows(split.train)
    tokens_per_epoch = int(inputs.pieces.lengths[rows].mean() * steps_per_epoch * min(train.batch_size, len(rows)))
    weights = _class_weights(inputs, inputs.pieces.texts[rows], settings)
    plan = finetune_plan(train, num_layers, steps_per_epoch)
    score, mode = selection_score(task, settings.metric, inputs.examples)
    return Stage(
        name=name,
        plan=plan,
        make_loss_fn=lambda phase: encoder_loss(encoder, task, train.label_smoothing, frozen_layers(phase), weights),
        optimizer=_optimizer(train),
        labels=label_params(params, encoder_rules(num_layers)),
        clip_norm=train.clip_norm,
        params=params,
        carry=(),
        key=jax.random.fold_in(jax.random.key(settings.seed), 3),
        batches=Batches(
            lambda step: batches.training_batch(step, settings.seed),
            steps_per_epoch,
            tokens_per_epoch,
            part=lambda step, rows: batches.training_batch(step, settings.seed, rows),
            rows=min(train.batch_size, len(rows)),
            microbatches=train.accumulation,
        ),
        evaluate=_evaluation(inputs, split, settings) if len(split.dev) else None,
        evaluate_every=train.evaluate_every or evaluate_every(train.epochs, steps_per_epoch, train.min_steps),
        selection=Selection(
            is_best=best_score(score, mode) if keeps_best(train, split) else None,
            is_over=out_of_patience(score, train.patience, mode) if len(split.dev) else None,
        ),
        average=_average(train, plan, steps_per_epoch, split),
        value_and_grad=partial(accumulate_gradients, num_microbatches=train.accumulation, weight="examples"),
    )


def keeps_best(train: Training, split: Split) -> bool:
    """Whether the dev texts choose the weights."""
    enough = MIN_DEV_TEXTS if train.keep == "auto" else 1
    return train.keep != "last" and len(split.dev) >= enough


def ema_decay(train: Training, split: Split) -> float:
    """The decay of the exponential moving average of the weights; 0 without one."""
    if train.ema_decay is not None or train.swa_start is not None:
        return train.ema_decay or 0.0
    return EMA_DECAY if train.keep == "auto" and not keeps_best(train, split) else 0.0


def with_probe(
    inputs: Inputs,
    train: np.ndarray,
    labels: np.ndarray,
    params: Any,
    settings: Settings,
    class_weights: np.ndarray | None = None,
) -> Any:
    """The parameters with an output layer that is solved on the features of at most `PROBE_TEXTS` training texts."""
    chosen, folds = sample_with_folds(labels[train], PROBE_TEXTS, FOLDS, settings.seed, inputs.examples.keys[train])
    texts = train[chosen]
    features_fn = by_rows(
        lambda params, batch: inputs.encoder.apply(params, *encoder_inputs(inputs.encoder, batch))["features"]
    )
    batches = _batches(inputs, texts, np.zeros(len(labels), np.int32), settings.train.eval_batch_size)
    features = inputs.pieces.means(texts, batches.map(partial(features_fn, replicated(params))))
    outputs = max(1, len(inputs.examples.classes))
    kernel, bias = solve_head(settings.task, features, labels[texts], outputs, folds, class_weights)
    return {**params, "head": {**params["head"], "out": {"kernel": kernel, "bias": bias}}}


def as_model(inputs: Inputs, settings: Settings, params: Any) -> EncoderModel:
    """The finished model of a stage's parameters."""
    return EncoderModel(
        encoder=replace(inputs.encoder, params=params),
        tokenizer=inputs.tokenizer,
        task=settings.task,
        classes=inputs.examples.classes,
        max_length=inputs.max_length,
        long_texts=inputs.long_texts,
        pairs=settings.pair_column is not None,
        batch_size=settings.train.eval_batch_size,
        text_columns=Columns.of(settings).joined,
    )


def with_thresholds(model: EncoderModel, inputs: Inputs, dev: np.ndarray) -> EncoderModel:
    """The model of sets of labels with the thresholds that are best on the dev texts, if these are enough to tell."""
    if model.task != "multilabel" or len(dev) < MIN_DEV_TEXTS:
        return model
    thresholds = best_thresholds(inputs.examples.targets[dev], predict_examples(model, inputs, dev))
    return replace(model, thresholds=tuple(thresholds))


def predict_examples(model: EncoderModel, inputs: Inputs, examples: np.ndarray) -> np.ndarray:
    """Probabilities, or numbers, (N, C) of some of the examples, in their order."""
    return model.scores_of_pieces(inputs.pieces, np.asarray(examples), model.batch_size, inputs.pieces.widths())


def frozen_layers(phase: Phase) -> int:
    """The number of layers at the bottom that a phase freezes together with the embeddings.

    Examples:
        >>> frozen_layers(Phase("last 2", {"embeddings": None, "layer_0": None, "layer_1": 1.0, "head": 1.0}, 1))
        1
    """
    if phase.rates["embeddings"] is not None:
        return 0
    layers = [rate for group, rate in phase.rates.items() if group.startswith("layer_")]
    return next((depth for depth, rate in enumerate(layers) if rate is not None), len(layers))


def encoder_loss(
    encoder: Encoder,
    task: Task,
    label_smoothing: float = 0.0,
    frozen_layers: int = 0,
    class_weights: np.ndarray | None = None,
) -> LossFn:
    """The mean loss over a batch, for `jaxft.make_train_step`; a key turns dropout on.

    Args:
        encoder: with a head for the task.
        task: what a label is.
        label_smoothing: as in `losses`.
        frozen_layers: layers at the bottom, with the embeddings, that get no gradient.
        class_weights: (C,) float32, the weight of a text of each class in the mean; None weights all alike.
    """

    def loss_fn(params: Any, carry: Any, batch: Mapping[str, Any], key: jax.Array | None) -> Any:
        outputs = encoder.apply(params, *encoder_inputs(encoder, batch), key=key, frozen_layers=frozen_layers)
        labels = jnp.asarray(batch["labels"])
        batch_losses = losses(task, outputs["logits"], labels, label_smoothing)
        if class_weights is None:
            return batch_losses.mean(), (carry, {"examples": jnp.float32(batch_losses.size)})
        weights = jnp.asarray(class_weights)[labels]
        return jnp.average(batch_losses, weights=weights), (carry, {"examples": weights.sum()})

    return loss_fn


def losses(task: Task, logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """The loss of each text, (B,): squared error, cross-entropy, or for sets of labels the sum of cross-entropies.

    Args:
        task: what a label is.
        logits: (B, C) float32.
        labels: (B,) int32 or float32, or (B, C) float32.
        label_smoothing: share of the probability that all classes get, as in `optax.smooth_labels`.
    """
    if task == "regression":
        return optax.squared_error(logits[:, 0], labels)
    if task == "multilabel":
        return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=1)
    if label_smoothing:
        one_hot = jax.nn.one_hot(labels, logits.shape[1])
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, label_smoothing))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _evaluation(inputs: Inputs, split: Split, settings: Settings) -> Any:
    """Makes the function that measures loss and scores on the dev texts."""
    task, examples = settings.task, inputs.examples
    labels, (mean, std) = _standardized(examples, split), _mean_and_std(examples, split)
    held_out = _batches(inputs, split.dev, labels, settings.train.eval_batch_size)
    outputs_fn = by_rows(encoder_outputs_fn(inputs.encoder))

    def evaluate(params: Any, carry: Any) -> dict[str, float]:
        logits = inputs.pieces.means(split.dev, held_out.map(partial(outputs_fn, replicated(params))))
        loss = float(losses(task, jnp.asarray(logits), jnp.asarray(labels[split.dev])).mean())
        outputs = as_scores(task, logits * std + mean)
        scores = task_scores(task, examples.targets[split.dev], outputs, examples.classes, settings.metric)
        return {"loss": loss, **{name: value for name, value in scores.items() if isinstance(value, float)}}

    return evaluate


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


def _average(train: Training, plan: Plan, steps_per_epoch: int, split: Split) -> averaging.Average | None:
    if train.swa_start is not None:
        return averaging.swa(sum(phase.epochs for phase in plan[:-1]) * steps_per_epoch)
    decay = ema_decay(train, split)
    return averaging.ema(decay) if decay else None


def _mean_and_std(examples: Examples, split: Split) -> tuple[float, float]:
    """Mean and standard deviation of the training numbers; 0 and 1 where targets are not numbers."""
    targets = examples.targets[split.train]
    return (0.0, 1.0) if examples.classes else (float(targets.mean()), float(targets.std()) or 1.0)


def _standardized(examples: Examples, split: Split) -> np.ndarray:
    """The targets of all examples; numbers with the mean 0 and the standard deviation 1 over the training texts."""
    mean, std = _mean_and_std(examples, split)
    return examples.targets if examples.classes else ((examples.targets - mean) / std).astype(np.float32)


def _class_weights(inputs: Inputs, examples: np.ndarray, settings: Settings) -> np.ndarray | None:
    """The weights of the classes in a loss over these examples, of which long ones occur once for each window."""
    if settings.task != "classification":
        return None
    return class_weights(settings.class_weights, inputs.examples.targets[examples], inputs.examples.classes)


def _rescaled_head(params: Any, mean: float, std: float) -> Any:
    """Parameters whose outputs are `outputs * std + mean`."""
    out = params["head"]["out"]
    rescaled = {"kernel": out["kernel"] * std, "bias": out["bias"] * std + mean}
    return {**params, "head": {**params["head"], "out": rescaled}}


def _batches(
    inputs: Inputs, examples: Sequence[int] | np.ndarray, labels: np.ndarray, batch_size: int
) -> LengthBatches:
    return piece_batches(inputs.pieces, np.asarray(examples), labels, batch_size, inputs.pieces.widths())
