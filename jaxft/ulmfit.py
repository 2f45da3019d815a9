"""ULMFiT from raw texts to a classifier: `python -m jaxft.ulmfit --data imdb`, or stage by stage from Python.

The stages are plain functions: `read_texts`, `pretrain_lm` or `fine_tune_lm`, `train_classifier`, `predict`. Without a
run folder they keep nothing, which suits a notebook; the job gives them one, and can then be stopped and resumed.

References:
  Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from jaxft import averaging, plots, report, summary, unfreezing
from jaxft.data.corpus import open_corpus
from jaxft.data.download import cache_folder
from jaxft.data.splits import UNLABELLED, Texts, split_texts
from jaxft.data.store import build_store
from jaxft.data.streams import LengthBatches, WindowStream, length_widths
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError, run_job
from jaxft.groups import decay_mask, label_params
from jaxft.models.awd_lstm import (
    AWDLSTMConfig,
    LanguageModel,
    initial_carry,
    language_model_loss,
    language_model_rules,
)
from jaxft.models.heads import Classifier, classification_loss, classifier_rules
from jaxft.predict import TextClassifier, class_logits, class_logits_fn, enable_compilation_cache
from jaxft.preview import preview
from jaxft.settings import LanguageModelStage, Settings, parse
from jaxft.stage import Run, StageResult, read_stage, run_plan
from jaxft.train import make_eval_step
from jaxft.unfreezing import Phase

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
        corpus.name,
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

    Returns:
      `params` is a nested dict with `encoder` and `decoder_bias`; the report holds `valid_loss` (nats per token),
      `perplexity` and the figures of `run_plan`.
    """
    config = _encoder_config(texts, settings)
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
      As `pretrain_lm`.
    """
    run, config, stage = run or Run(None), _encoder_config(texts, settings), settings.lm
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
    """
    run, config, stage = run or Run(None), _encoder_config(texts, settings), settings.classifier
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

    words = int(texts.store.lengths[texts.train].mean() * batches.steps_per_epoch * batches.batch_size)
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
        config=_encoder_config(texts, settings),
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
    """The language model's plan: one phase in which everything trains, or none where the stage is left out."""
    stage = settings.lm
    if not stage.epochs:
        return ()
    groups = [group for _, group in language_model_rules(settings.model.num_layers)]
    return unfreezing.full(groups, stage.peak_rate, stage.divisor, epochs=stage.epochs, schedule=stage.schedule)


def classifier_plan(settings: Settings) -> tuple[Phase, ...]:
    """The classifier's phases, as `settings.classifier.plan` names them."""
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


def _encoder_config(texts: Texts, settings: Settings) -> AWDLSTMConfig:
    return AWDLSTMConfig(len(texts.store.vocabulary), **asdict(settings.model))


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


def train(settings: Settings) -> dict[str, Any]:
    """Runs the whole job in the folder `settings.out` and returns its summary.

    Raises:
      InputError: bad data, flags or folder.
      Stopped: the run was asked to stop; `settings.resume` goes on with it.
    """
    folder = report.create_run_folder(settings.out, settings.resume)
    started = time.monotonic()
    if not settings.resume:
        report.write_json(folder / "config.json", _identity(settings))
    elif difference := _difference(report.read_json(folder / "config.json"), report.to_json(_identity(settings))):
        raise InputError(f"the run in {folder} has other settings ({difference}): resume it with its own flags")
    texts = read_texts(settings)
    texts.store.vocabulary.save(folder / "vocabulary.json")
    text_seconds = time.monotonic() - started
    run = Run(folder, log_every=settings.log_every, checkpoint_seconds=60 * settings.checkpoint_minutes)
    with run:
        lm = _language_model(texts, settings, run)
        classified = run.finished(CLASSIFIER)
        if classified is None:
            classified = train_classifier(texts, settings, lm and lm.params, run)[1]
            run.finish(CLASSIFIER, classified)
    model = as_classifier(texts, settings, classified)
    model.save(folder / "model")
    started = time.monotonic()
    predictions = classify(model, texts, texts.test, settings)
    test_words = int(texts.store.lengths[texts.test].sum())
    stages = [_stage_row("text", text_seconds, int(texts.store.lengths.sum()))]
    stages += [_stage_row(name, **_pick(r.report, "seconds", "tokens")) for name, r in _named(lm, classified)]
    stages += [_stage_row("test", time.monotonic() - started, test_words)]
    result = {
        "data": {
            "name": texts.name,
            "sizes": {
                "train": len(texts.train),
                "dev": len(texts.dev),
                "test": len(texts.test),
                "language-model texts": len(texts.lm_train),
            },
            "classes": texts.store.classes,
            "transductive": settings.transductive,
            "vocabulary": len(texts.store.vocabulary),
        },
        "test": summary.classification_summary(
            texts.store.labels[texts.test].tolist(), predictions.tolist(), texts.store.classes
        ),
        "dev": _pick(classified.report["epochs"][classified.report["best_epoch"] - 1], "accuracy", "loss"),
        **({"language_model": _pick(lm.report, "valid_loss", "perplexity", "valid_tokens")} if lm else {}),
        "stages": stages,
        "peak_memory_mb": summary.peak_memory_mb(),
        "environment": summary.environment(),
        "config": _identity(settings),
    }
    report.write_json(folder / "summary.json", result)
    steps = {CLASSIFIER: classified.report["steps_per_epoch"]}
    if lm is not None and settings.language_model is None:
        steps[LANGUAGE_MODEL] = lm.report["steps_per_epoch"]
    _draw(folder, settings, steps, result)
    return result


def _plans(texts: Texts, settings: Settings) -> dict[str, tuple[tuple[Phase, ...], int]]:
    """The phases of each stage that will be trained, and its steps per epoch."""
    lm, classifier = settings.lm, settings.classifier
    plans = {}
    if lm_plan(settings) and settings.language_model is None:
        stream = _window_stream(texts, texts.lm_train, lm.batch_size, lm.bptt, settings.seed)
        plans[LANGUAGE_MODEL] = (lm_plan(settings), stream.steps_per_epoch)
    batches = _length_batches(texts, texts.train, settings, classifier.batch_size)
    return {**plans, CLASSIFIER: (classifier_plan(settings), batches.steps_per_epoch)}


def _check(settings: Settings) -> None:
    """Refuses values that no plan can be made of before anything is read or written."""
    for stage, plan in (("lm", lm_plan), ("classifier", classifier_plan)):
        try:
            plan(settings)
        except ValueError as error:
            raise InputError(f"the flags --{stage}.* do not fit together: {error}") from error


def _identity(settings: Settings) -> dict[str, Any]:
    """The settings that decide the result, to record and to compare on resume."""
    fields = asdict(settings)
    for name in ("out", "resume", "dry_run", "checkpoint_minutes"):
        del fields[name]
    return fields


def _difference(old: Any, new: Any, prefix: str = "--") -> str:
    """The flags in which two records of settings differ, with both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        parts = [_difference(old.get(k), new.get(k), f"{prefix}{'.' * (prefix != '--')}{k}") for k in {**old, **new}]
        return ", ".join(filter(None, parts))
    return "" if old == new else f"{prefix.replace('_', '-')} was {old} and is now {new}"


def _language_model(texts: Texts, settings: Settings, run: Run) -> StageResult | None:
    """The language model that this run has trained, trains now, or takes from another run; None where it has none."""
    if settings.language_model is not None:
        return _borrowed_language_model(texts, settings.language_model)
    if not lm_plan(settings):
        return None
    result = run.finished(LANGUAGE_MODEL)
    if result is None:
        result = pretrain_lm(texts, settings, run)
        run.finish(LANGUAGE_MODEL, result)
    return result


def _borrowed_language_model(texts: Texts, folder: Path) -> StageResult:
    result = read_stage(folder, LANGUAGE_MODEL)
    if result is None:
        raise InputError(f"--language-model {folder} holds no trained language model: name the folder of a run")
    if Vocabulary.load(folder / "vocabulary.json") != texts.store.vocabulary:
        raise InputError(f"the language model in {folder} has another vocabulary: train one on these texts")
    return replace(result, report={**result.report, "seconds": 0.0, "tokens": 0})


def _stage_row(name: str, seconds: float, tokens: int) -> dict[str, Any]:
    return {"name": name, "seconds": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds if seconds else None}


def _named(lm: StageResult | None, classified: StageResult) -> list[tuple[str, StageResult]]:
    return [*([("language model", lm)] if lm else []), ("classifier", classified)]


def _pick(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: mapping[name] for name in names}


def _draw(folder: Path, settings: Settings, stages: Mapping[str, int], result: Mapping[str, Any]) -> None:
    """Draws the run's pictures; `stages` gives the steps per epoch of each stage that was trained."""
    metrics = report.read_metrics(folder / "metrics.jsonl")
    plots.plot_training(metrics, folder / "plots/training.png")
    for stage, plan in ((LANGUAGE_MODEL, lm_plan), (CLASSIFIER, classifier_plan)):
        if stage in stages:
            phases = plan(settings)
            starts = np.cumsum([0, *(phase.epochs * stages[stage] for phase in phases)])
            boundaries = [(int(start), phase.name) for start, phase in zip(starts, phases, strict=False)]
            curves = unfreezing.learning_rates(phases, stages[stage])
            plots.plot_learning_rates(curves, boundaries, folder / f"plots/learning_rates_{stage}.png")
    plots.plot_confusion(result["test"]["confusion_matrix"], result["data"]["classes"], folder / "plots/confusion.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    settings = parse(arguments)
    _check(settings)
    enable_compilation_cache()
    if settings.dry_run:
        texts = read_texts(settings)
        print(preview(texts, settings, _plans(texts, settings), _encoder_config(texts, settings)))
        return
    print(summary.summary_table(train(settings)))
    print(f"\n{settings.out}: summary.json, metrics.jsonl, plots/ and model/; classify a text of your own with")
    print(f"python -m jaxft.predict {settings.out} --text '...'")


if __name__ == "__main__":
    run_job(main)
