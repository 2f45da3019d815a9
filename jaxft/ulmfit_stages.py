"""The stages of ULMFiT as plain functions, from `read_texts` over `pretrain_lm` and `train_classifier` to `predict`.

Without a run folder they keep nothing, which suits a notebook; `jaxft.ulmfit` gives them one, and takes their names.

References:
  Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from jaxft import averaging, unfreezing
from jaxft.data.corpus import open_corpus
from jaxft.data.download import cache_folder
from jaxft.data.splits import UNLABELLED, Texts, split_texts
from jaxft.data.store import build_store
from jaxft.data.streams import LengthBatches, WindowStream, length_widths
from jaxft.errors import InputError
from jaxft.groups import decay_mask, label_params
from jaxft.models.awd_lstm import (
    AWDLSTMConfig,
    LanguageModel,
    initial_carry,
    language_model_loss,
    language_model_rules,
)
from jaxft.models.heads import Classifier, classification_loss, classifier_rules
from jaxft.phases import Phase
from jaxft.predict import TextClassifier, class_logits, class_logits_fn
from jaxft.settings import LanguageModelStage, Settings
from jaxft.stage import Run, StageResult, run_plan
from jaxft.train import make_eval_step

LANGUAGE_MODEL, CLASSIFIER = "language_model", "classifier"
"""the stages in logs and file names"""


def read_texts(settings: Settings, progress: bool = True) -> Texts:
    """Reads, tokenizes and splits the corpus that `settings.data` names; ids are cached, splits depend on the seed.

    Raises:
      InputError: bad data; the sentence names file and row, or the flag.
    """
    corpus = open_corpus(
        settings.data,
        text_column=settings.text_column,
        label_column=settings.label_column,
        split_column=settings.split_column,
    )
    store = build_store(
        corpus,
        cache_folder() / "texts",
        max_vocab=settings.text.max_vocab,
        min_count=settings.text.min_count,
        transductive=settings.transductive,
        progress=progress,
    )
    return split_texts(
        corpus,
        store,
        seed=settings.seed,
        dev_fraction=settings.classifier.dev_fraction,
        valid_fraction=settings.lm.valid_fraction,
        limit_labels=settings.limit_labels,
        limit_unlabelled=settings.limit_unlabelled,
        transductive=settings.transductive,
    )


def pretrain_lm(texts: Texts, settings: Settings, run: Run | None = None) -> StageResult:
    """Trains a language model from random weights on `texts.lm_train`.

    Args:
      texts: from `read_texts`.
      settings: `settings.model` and `settings.lm` are used, and the seed.
      run: run folder to log to and resume from; None keeps nothing.

    Raises:
      InputError: too few texts for a window, or losses that stay not finite.
      Stopped: the run was asked to stop.

    Returns:
      `params` is a nested dict with `encoder` and `decoder_bias`; the report holds `valid_loss` (nats per token),
      `perplexity` and the figures of `run_plan`.
    """
    config = encoder_config(texts, settings)
    dropouts = settings.lm.dropout.scaled(settings.lm.drop_mult)
    model = LanguageModel(config, dropouts, nnx.Rngs(settings.seed))
    return fine_tune_lm(texts, settings, nnx.to_pure_dict(nnx.state(model)), run)


def fine_tune_lm(texts: Texts, settings: Settings, params: Any, run: Run | None = None) -> StageResult:
    """Fine-tunes a language model on `texts.lm_train` with STLR, discriminative rates and one clip over all gradients.

    Args:
      texts: from `read_texts`.
      settings: `settings.lm` is used, and the seed.
      params: parameters of a language model over the vocabulary of `texts`; see `pretrain_lm`.
      run: run folder to log to and resume from; None keeps nothing.

    Returns:
      As `pretrain_lm`, with the same errors.
    """
    run, config, stage = run or Run(None), encoder_config(texts, settings), settings.lm
    graphdef = nnx.graphdef(
        nnx.eval_shape(lambda: LanguageModel(config, stage.dropout.scaled(stage.drop_mult), nnx.Rngs(0)))
    )
    loss_fn = language_model_loss(graphdef, stage.activation_penalty, stage.temporal_penalty)
    stream = _window_stream(texts, texts.lm_train, stage.batch_size, stage.bptt, settings.seed)
    valid = _window_stream(texts, texts.lm_valid, stage.batch_size, stage.bptt, None)
    eval_step = jax.jit(make_eval_step(loss_fn))

    def evaluate(params: Any, carry: Any) -> dict[str, float]:
        del carry
        loss, tokens = 0.0, 0
        state: Any = initial_carry(config, stage.batch_size)
        for i in range(valid.steps_per_epoch):
            window = valid.batch(i)
            state, metrics = eval_step(params, state, window)
            count = int((window["targets"] >= 0).sum())
            loss, tokens = loss + count * float(metrics["cross_entropy"]), tokens + count
        return {"loss": loss / tokens, "perplexity": float(np.exp(loss / tokens))}

    result = run_plan(
        run,
        LANGUAGE_MODEL,
        lm_plan(settings),
        loss_fn=loss_fn,
        optimizer=_adam(stage.b1, stage.b2, stage.weight_decay),
        labels=label_params(params, language_model_rules(settings.model.num_layers)),
        clip_norm=stage.clip_norm,
        params=params,
        carry=initial_carry(config, stage.batch_size),
        key=jax.random.fold_in(jax.random.key(settings.seed), 1),
        batch=stream.batch,
        steps_per_epoch=stream.steps_per_epoch,
        tokens_per_epoch=stream.steps_per_epoch * stage.batch_size * stage.bptt,
        evaluate=evaluate,
        average=_average(stage, stage.epochs * stream.steps_per_epoch),
    )
    last = result.report["epochs"][-1]
    scores = {"valid_loss": last["loss"], "perplexity": last["perplexity"], "valid_tokens": valid.tokens}
    return StageResult(result.params, {}, {**scores, **result.report})


def train_classifier(
    texts: Texts, settings: Settings, lm_params: Any | None = None, run: Run | None = None
) -> tuple[TextClassifier, StageResult]:
    """Trains the classifier with gradual unfreezing, each phase with a schedule of its own, and keeps the best epoch.

    Args:
      texts: from `read_texts`.
      settings: `settings.model` and `settings.classifier` are used, and the seed.
      lm_params: parameters of a language model, whose encoder is taken; None starts from random weights.
      run: run folder to log to and resume from; None keeps nothing.

    Returns:
      The classifier, and the stage's result with the accuracy and loss on `texts.dev` after every epoch.

    Raises:
      InputError: losses that stay not finite.
      Stopped: the run was asked to stop.
    """
    run, config, stage = run or Run(None), encoder_config(texts, settings), settings.classifier
    dropouts = stage.dropout.scaled(stage.drop_mult)
    model = Classifier(
        config,
        len(texts.store.classes),
        dropouts,
        nnx.Rngs(settings.seed),
        head_hidden=stage.head_hidden,
        head_dropouts=(dropouts.output, stage.head_dropout),
        max_length=stage.max_length,
        bptt=settings.lm.bptt,
    )
    graphdef, state, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, statistics = nnx.to_pure_dict(state), nnx.to_pure_dict(batch_stats)
    if lm_params is not None:
        params = {**params, "encoder": lm_params["encoder"]}
    batches = _length_batches(texts, texts.train, settings, stage.batch_size)
    dev = _length_batches(texts, texts.dev, settings, stage.eval_batch_size)
    logits_fn = jax.jit(class_logits_fn(graphdef))

    def evaluate(params: Any, statistics: Any) -> dict[str, float]:
        logits = class_logits(logits_fn, params, statistics, dev)
        labels = texts.store.labels[texts.dev]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return {"loss": float(losses.mean()), "accuracy": float((logits.argmax(axis=1) == labels).mean())}

    documents = batches.steps_per_epoch * min(stage.batch_size, len(texts.train))
    words = int(texts.store.lengths[texts.train].mean() * documents)
    result = run_plan(
        run,
        CLASSIFIER,
        classifier_plan(settings),
        loss_fn=classification_loss(graphdef),
        optimizer=_adam(stage.b1, stage.b2, stage.weight_decay),
        labels=label_params(params, classifier_rules(settings.model.num_layers)),
        clip_norm=stage.clip_norm,
        params=params,
        carry=statistics,
        key=jax.random.fold_in(jax.random.key(settings.seed), 2),
        batch=lambda step: batches.training_batch(step, settings.seed),
        steps_per_epoch=batches.steps_per_epoch,
        tokens_per_epoch=words,
        evaluate=evaluate,
        keep_best=lambda metrics: (metrics["accuracy"], -metrics["loss"]),
    )
    return as_classifier(texts, settings, result), result


def as_classifier(texts: Texts, settings: Settings, result: StageResult) -> TextClassifier:
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
        batch_size=settings.classifier.eval_batch_size,
    )


def classify(model: TextClassifier, texts: Texts, documents: np.ndarray, settings: Settings) -> np.ndarray:
    """Predicted classes (N,) int of documents of the corpus, such as `texts.test`, in their order."""
    batches = _length_batches(texts, documents, settings, model.batch_size)
    return class_logits(model.logits, model.params, model.statistics, batches).argmax(axis=1)


def predict(model: TextClassifier, texts: Sequence[str]) -> np.ndarray:
    """Class probabilities (N, C) float32 of `texts`, in their order; columns are `model.classes`."""
    return model.probabilities(texts)


def lm_plan(settings: Settings) -> tuple[Phase, ...]:
    """The language model's plan: one phase in which everything trains, or none where the stage is left out.

    Examples:
      >>> from jaxft.presets import PAPER
      >>> [(phase.epochs, phase.rates["lstm_2"]) for phase in lm_plan(PAPER)]
      [(15, 0.0015384615384615385)]
    """
    stage = settings.lm
    if not stage.epochs:
        return ()
    groups = [group for _, group in language_model_rules(settings.model.num_layers)]
    return unfreezing.full(groups, stage.peak_rate, stage.divisor, epochs=stage.epochs, schedule=stage.schedule)


def classifier_plan(settings: Settings) -> tuple[Phase, ...]:
    """The classifier's phases, as `settings.classifier.plan` names them.

    Examples:
      >>> from jaxft.presets import SMALL
      >>> [phase.name for phase in classifier_plan(SMALL)]
      ['last 1', 'last 2', 'last 3', 'all']
    """
    stage = settings.classifier
    groups = [group for _, group in classifier_rules(settings.model.num_layers)]
    lengths = {"epochs_per_phase": stage.phase_epochs, "final_epochs": stage.epochs}
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
            plan = unfreezing.last_layer(groups, stage.peak_rate, stage.epochs, stage.schedule)
        case "full":
            plan = unfreezing.full(groups, stage.peak_rate, stage.divisor, stage.epochs, stage.schedule)
    return tuple(_scaled(phase, stage.rate_decay**number) for number, phase in enumerate(plan))


def _scaled(phase: Phase, factor: float) -> Phase:
    return replace(phase, rates={group: rate and factor * rate for group, rate in phase.rates.items()})


def plans(texts: Texts, settings: Settings) -> dict[str, tuple[tuple[Phase, ...], int]]:
    """The phases of each stage that will be trained, and its steps per epoch.

    Raises:
      InputError: the texts are too few for a step.
    """
    lm, classifier = settings.lm, settings.classifier
    found = {}
    if lm_plan(settings) and settings.language_model is None:
        stream = _window_stream(texts, texts.lm_train, lm.batch_size, lm.bptt, settings.seed)
        found[LANGUAGE_MODEL] = (lm_plan(settings), stream.steps_per_epoch)
    batches = _length_batches(texts, texts.train, settings, classifier.batch_size)
    return {**found, CLASSIFIER: (classifier_plan(settings), batches.steps_per_epoch)}


def _adam(b1: float, b2: float, weight_decay: float) -> optax.GradientTransformation:
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


def encoder_config(texts: Texts, settings: Settings) -> AWDLSTMConfig:
    """Sizes and precision of the encoder over the vocabulary of `texts`."""
    return AWDLSTMConfig(len(texts.store.vocabulary), **asdict(settings.model), precision=settings.precision)


def _window_stream(texts: Texts, documents: np.ndarray, batch_size: int, bptt: int, seed: int | None) -> WindowStream:
    try:
        return WindowStream(
            texts.store.ids, texts.store.offsets, documents, batch_size=batch_size, bptt=bptt, seed=seed
        )
    except ValueError as error:
        raise InputError(f"{texts.name}: {error}; lower --lm.batch-size or --lm.bptt, or add texts") from error


def _length_batches(texts: Texts, documents: np.ndarray, settings: Settings, batch_size: int) -> LengthBatches:
    store = texts.store
    longest = int(store.lengths[store.splits != UNLABELLED].max())
    # Each width is compiled anew for each phase, which takes longer than a few padded documents.
    buckets = min(3, 1 + len(texts.train) // 1000)
    widths = length_widths(longest, settings.classifier.max_length, settings.lm.bptt, buckets)
    pad = store.vocabulary.pad
    return LengthBatches(store.ids, store.offsets, documents, store.labels, batch_size, widths, pad)
