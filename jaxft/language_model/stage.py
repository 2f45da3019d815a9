"""Training of a language model: from random weights (`pretrain_lm`) or from another one (`fine_tune_lm`).

References:
    Merity, Keskar & Socher, Regularizing and Optimizing LSTM Language Models, ICLR 2018. Howard & Ruder, Universal
    Language Model Fine-tuning for Text Classification, ACL 2018, section 3.2.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from jaxft.base.sharding import by_rows, mesh_for, place
from jaxft.data.document import Direction
from jaxft.data.splits import Texts
from jaxft.data.windows import WindowStream
from jaxft.errors import InputError
from jaxft.inference.language_model import TextLanguageModel
from jaxft.language_model.settings import Directions, LanguageModelSettings, LanguageModelStage
from jaxft.models.awd_lstm import (
    AWDLSTMConfig,
    LanguageModel,
    initial_carry,
    language_model_loss,
    language_model_rules,
)
from jaxft.models.transfer import transfer_vocabulary
from jaxft.optim import averaging, unfreezing
from jaxft.optim.groups import decay_mask, label_params
from jaxft.optim.phases import Phase
from jaxft.training.batches import Batches
from jaxft.training.precision import chosen_precision
from jaxft.training.run import Run, StageResult
from jaxft.training.settings import check_steps
from jaxft.training.stage import Stage, run_stage
from jaxft.training.train_step import make_eval_step

LANGUAGE_MODEL = "language_model"
"""the stage in logs and file names; see `stage_name`"""


def stage_name(stage: str, direction: Directions) -> str:
    """The name of a stage in logs, files and plans.

    Examples:
        >>> stage_name("classifier", "forward"), stage_name("classifier", "backward")
        ('classifier', 'classifier_backward')
    """
    return stage if direction == "forward" else f"{stage}_{direction}"


def directions(wanted: Directions) -> tuple[Direction, ...]:
    """The directions that `--direction` names, in training order."""
    return ("forward", "backward") if wanted == "both" else (wanted,)


def pretrain_lm(
    texts: Texts, settings: LanguageModelSettings, run: Run | None = None, direction: Direction = "forward"
) -> StageResult:
    """Trains a language model from random weights on `texts.lm_train`.

    Args:
        texts: from `read_texts`.
        settings: `settings.model` and `settings.lm` are used, the precision and the seed.
        run: run folder to log to and resume from; None keeps nothing.
        direction: direction in which the model reads.

    Raises:
        InputError: too few texts for a window, or losses that stay not finite.
        Stopped: the run was asked to stop.

    Returns:
        `params` is a nested dict with `encoder` and `decoder_bias`; the report holds `valid_loss` (nats per token),
        `perplexity` and the entries of `run_stage`.
    """
    return fine_tune_lm(texts, settings, random_lm(texts, settings), run, direction)


def random_lm(texts: Texts, settings: LanguageModelSettings) -> Any:
    """Parameters of a language model over the vocabulary of `texts`, drawn by the seed."""
    dropouts = settings.lm.dropout.scaled(settings.lm.drop_mult)
    model = LanguageModel(encoder_config(texts, settings), dropouts, nnx.Rngs(settings.seed))
    return nnx.to_pure_dict(nnx.state(model))


def fine_tune_lm(
    texts: Texts, settings: LanguageModelSettings, start: Any, run: Run | None = None, direction: Direction = "forward"
) -> StageResult:
    """Fine-tunes a language model on `texts.lm_train` with the plan of `settings.lm`.

    Args:
        texts: from `read_texts`.
        settings: `settings.lm` is used, the precision and the seed.
        start: a `TextLanguageModel`, whose vocabulary is exchanged for that of `texts`; or the parameters of a language
            model over the vocabulary of `texts`, as `pretrain_lm` returns them. Its sizes are those of
            `settings.model`.
        run: run folder to log to and resume from; None keeps nothing.
        direction: direction in which the model reads.

    Returns:
        As `pretrain_lm`, with the same errors; where the vocabulary changes, the report has `matched_words` and
        `new_words`.
    """
    params, word_counts = adapted_params(texts, start)
    result = run_stage(run or Run(None), lm_stage(texts, settings, params, direction))
    return lm_result(texts, result.params, word_counts, result.report)


def adapted_params(texts: Texts, start: Any) -> tuple[Any, dict[str, int]]:
    """Parameters over the vocabulary of `texts`, and how many of its words a model with another vocabulary knows."""
    if not isinstance(start, TextLanguageModel):
        return start, {}
    vocabulary = texts.store.vocabulary
    params, matched = transfer_vocabulary(start.params, start.vocabulary, vocabulary)
    return params, {"matched_words": matched, "new_words": len(vocabulary) - matched}


def untrained_lm(texts: Texts, start: TextLanguageModel) -> StageResult:
    """A language model with the vocabulary of `texts`, as the result of a stage that trains nothing."""
    params, word_counts = adapted_params(texts, start)
    return StageResult(params, {}, {**word_counts, "seconds": 0.0, "tokens": 0})


def lm_stage(texts: Texts, settings: LanguageModelSettings, params: Any, direction: Direction = "forward") -> Stage:
    """The stage that trains a language model from `params`.

    Raises:
        InputError: too few texts for a window.
    """
    stage, config = settings.lm, encoder_config(texts, settings)
    stream = lm_stream(texts, settings, direction)
    evaluate = lm_evaluation(texts, settings, texts.lm_valid, direction)
    loss_fn = _lm_loss(config, stage)
    return Stage(
        name=stage_name(LANGUAGE_MODEL, direction),
        plan=lm_plan(settings, stream.steps_per_epoch),
        make_loss_fn=lambda phase: loss_fn,
        optimizer=_lm_optimizer(stage),
        labels=label_params(params, language_model_rules(settings.model.num_layers)),
        clip_norm=stage.clip_norm,
        params=params,
        carry=initial_carry(config, stage.batch_size),
        key=jax.random.fold_in(jax.random.key(settings.seed), 1),
        carry_axis=0,
        batches=Batches(
            stream.batch,
            stream.steps_per_epoch,
            tokens_per_epoch=int(stream.window_lengths(0).sum()) * stage.batch_size,
            part=stream.batch,
            rows=stage.batch_size,
        ),
        evaluate=lambda params, carry: evaluate(params),
        average=_average(stage, stage.epochs * stream.steps_per_epoch),
        rate_multipliers=_rate_multipliers(stream, stage),
    )


def abstract_lm_stage(texts: Texts, settings: LanguageModelSettings, direction: Direction = "forward") -> Stage:
    """The stage of a language model with the shapes of its parameters alone, for `jaxft.training.stage.check_stage`."""
    return lm_stage(texts, settings, jax.eval_shape(lambda: random_lm(texts, settings)), direction)


def lm_result(texts: Texts, params: Any, word_counts: dict[str, int], report: dict[str, Any]) -> StageResult:
    """The result of the stage, with the scores of its last evaluation first in the report."""
    last = report["evaluations"][-1]
    valid_tokens = int(texts.store.lengths[texts.lm_valid].sum())
    scores = {"valid_loss": last["loss"], "perplexity": last["perplexity"], "valid_tokens": valid_tokens}
    return StageResult(params, {}, {**scores, **word_counts, **report})


def lm_evaluation(
    texts: Texts, settings: LanguageModelSettings, documents: np.ndarray, direction: Direction = "forward"
) -> Callable[[Any], dict[str, float]]:
    """Makes the function from a language model's parameters to its `loss` (nats per token) and `perplexity`.

    Args:
        texts: from `read_texts`.
        settings: for the sizes, the rows and the windows, whose state is carried.
        documents: what to measure on, such as `texts.lm_valid`.
        direction: direction in which the model reads.

    Raises:
        InputError: too few tokens for a window.
    """
    config, stage = encoder_config(texts, settings), settings.lm
    read = replace(texts, lm_valid=documents).in_direction(direction)
    windows = _window_stream(read, read.lm_valid, stage.batch_size, stage.bptt, None)
    step = make_eval_step(_lm_loss(config, stage))

    def losses_of_rows(params: Any, state: Any, window: Any) -> tuple[Any, jax.Array]:
        state, metrics = step(params, state, window)
        return state, metrics["cross_entropy"][None]  # of each device

    losses_fn = by_rows(losses_of_rows, row_arguments=2, rows=stage.batch_size)

    def evaluate(params: Any) -> dict[str, float]:
        loss, tokens = 0.0, 0
        params = place(params, mesh_for(stage.batch_size))
        state: Any = initial_carry(config, stage.batch_size)
        for i in range(windows.steps_per_epoch):
            window = windows.batch(i)
            state, losses = losses_fn(params, state, window)
            counts = (window["targets"] >= 0).reshape(len(losses), -1).sum(axis=1)
            loss, tokens = loss + float(np.asarray(losses, np.float64) @ counts), tokens + int(counts.sum())
        return {"loss": loss / tokens, "perplexity": float(np.exp(loss / tokens))}

    return evaluate


def _lm_loss(config: AWDLSTMConfig, stage: LanguageModelStage) -> Any:
    model = nnx.eval_shape(lambda: LanguageModel(config, stage.dropout.scaled(stage.drop_mult), nnx.Rngs(0)))
    return language_model_loss(nnx.graphdef(model), stage.activation_penalty, stage.temporal_penalty)


def lm_stream(texts: Texts, settings: LanguageModelSettings, direction: Direction = "forward") -> WindowStream:
    """The windows that the language model learns from.

    Raises:
        InputError: too few texts for a window.
    """
    stage, read = settings.lm, texts.in_direction(direction)
    return _window_stream(read, read.lm_train, stage.batch_size, stage.bptt, settings.seed, stage.vary_bptt)


def _rate_multipliers(stream: WindowStream, stage: LanguageModelStage) -> np.ndarray | None:
    """The length of each window of the stage over `bptt`; None where the lengths are all the same."""
    if not stage.vary_bptt:
        return None
    return np.concatenate([stream.window_lengths(epoch) for epoch in range(stage.epochs)]) / stage.bptt


def as_language_model(
    texts: Texts, settings: LanguageModelSettings, params: Any, direction: Direction, pretokenized: bool = False
) -> TextLanguageModel:
    """The finished model of a stage's parameters; see `TextLanguageModel` for `pretokenized`."""
    return TextLanguageModel(encoder_config(texts, settings), texts.store.vocabulary, params, direction, pretokenized)


def lm_plan(settings: LanguageModelSettings, steps_per_epoch: int) -> tuple[Phase, ...]:
    """The language model's plan, one phase in which everything trains, for `steps_per_epoch` steps in an epoch.

    Examples:
        >>> from jaxft.language_model.presets import PAPER
        >>> from jaxft.language_model.settings import LanguageModelSettings
        >>> settings = LanguageModelSettings(**vars(PAPER))
        >>> [(phase.epochs, phase.rates["lstm_2"]) for phase in lm_plan(settings, 100)]
        [(15, 0.0015384615384615385)]

    Raises:
        InputError: more steps than are counted.
    """
    stage = settings.lm
    check_steps(stage.epochs, steps_per_epoch, "lm.epochs")
    groups = [group for _, group in language_model_rules(settings.model.num_layers)]
    return unfreezing.full(groups, stage.peak_rate, stage.divisor, epochs=stage.epochs, schedule=stage.schedule)


def _lm_optimizer(stage: LanguageModelStage) -> optax.GradientTransformation:
    """The update rule with the learning rate left to `discriminative`."""
    if stage.optimizer == "sgd":
        return optax.chain(optax.add_decayed_weights(stage.weight_decay), optax.sgd(1.0))
    return adam(stage.b1, stage.b2, stage.weight_decay)


def adam(b1: float, b2: float, weight_decay: float) -> optax.GradientTransformation:
    """Adam with the learning rate left to `discriminative`; AdamW where weights decay, biases and norms excepted."""
    if not weight_decay:
        return optax.adam(1.0, b1, b2)
    return optax.adamw(1.0, b1, b2, weight_decay=weight_decay, mask=decay_mask((r"bias", r"norm_\d+")))


def _average(stage: LanguageModelStage, steps: int) -> averaging.Average | None:
    match stage.average:
        case "ema":
            return averaging.ema(stage.ema_decay)
        case "swa":
            return averaging.swa(round(stage.swa_start * steps))
        case "nt-asgd":
            return averaging.nt_asgd(stage.patience)
    return None


def encoder_config(texts: Texts, settings: LanguageModelSettings) -> AWDLSTMConfig:
    """Sizes and precision of the encoder over the vocabulary of `texts`."""
    return AWDLSTMConfig(
        len(texts.store.vocabulary), **asdict(settings.model), precision=chosen_precision(settings.precision)
    )


def _window_stream(
    texts: Texts, documents: np.ndarray, batch_size: int, bptt: int, seed: int | None, vary: bool = False
) -> WindowStream:
    try:
        return WindowStream(
            texts.store.ids, texts.store.offsets, documents, batch_size=batch_size, bptt=bptt, seed=seed, vary=vary
        )
    except ValueError as error:
        otherwise = ", or leave the language model out with --lm.epochs 0" if len(texts.train) else ""
        raise InputError(
            f"{texts.name} has {error}: lower --lm.batch-size or --lm.bptt, or add texts{otherwise}"
        ) from error
