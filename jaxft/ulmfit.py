"""ULMFiT from raw texts to a classifier: `python -m jaxft.ulmfit --data imdb`.

The job runs the stages of `jaxft.ulmfit_stages` in a run folder, from which it can be resumed, and measures the result
on the test texts once. From Python, the stages are here under the same names.

References:
  Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft import phases, plots, report, summary
from jaxft.data.splits import Texts
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError, run_job
from jaxft.predict import enable_compilation_cache
from jaxft.presets import parse
from jaxft.preview import preview
from jaxft.settings import Settings, flag, flatten
from jaxft.stage import Run, StageResult, read_stage
from jaxft.ulmfit_stages import (
    CLASSIFIER,
    LANGUAGE_MODEL,
    as_classifier,
    classifier_plan,
    classify,
    encoder_config,
    fine_tune_lm,
    lm_plan,
    plans,
    predict,
    pretrain_lm,
    read_texts,
    train_classifier,
)

__all__ = ["classifier_plan", "classify", "fine_tune_lm", "lm_plan", "predict", "pretrain_lm", "read_texts"]
__all__ += ["train", "train_classifier"]

NOT_RESULT = {"out", "resume", "dry_run", "checkpoint_minutes"}
"""settings that do not decide the result"""


def train(settings: Settings) -> dict[str, Any]:
    """Runs the whole job in the folder `settings.out` and returns its summary.

    Raises:
      InputError: bad data, flags or folder; nothing is left behind.
      Stopped: the run was asked to stop; `settings.resume` goes on with it.
    """
    folder = report.create_run_folder(settings.out, settings.resume)
    try:
        started = time.monotonic()
        texts = read_texts(settings)
        text_seconds = time.monotonic() - started
        plans(texts, settings)
        borrowed = _borrowed_language_model(texts, settings)
        identity = _identity(texts, settings)
        if settings.resume:
            _refuse_difference(folder, identity)
    except BaseException:
        with suppress(OSError):  # goes only if it is empty
            folder.rmdir()
        raise
    if not settings.resume:
        texts.store.vocabulary.save(folder / "vocabulary.json")
        report.write_json(folder / "config.json", identity)
    with Run(folder, log_every=settings.log_every, checkpoint_seconds=60 * settings.checkpoint_minutes) as run:
        lm = borrowed or _language_model(texts, settings, run)
        classified = run.finished(CLASSIFIER)
        if classified is None:
            classified = train_classifier(texts, settings, lm and lm.params, run)[1]
            run.finish(CLASSIFIER, classified)
    model = as_classifier(texts, settings, classified)
    model.save(folder / "model")
    started = time.monotonic()
    predictions = classify(model, texts, texts.test, settings)
    stages = [_stage_row("text", text_seconds, int(texts.store.lengths.sum()))]
    if lm is not None:
        stages.append(_stage_row("language model", lm.report["seconds"], lm.report["tokens"]))
    stages.append(_stage_row("classifier", classified.report["seconds"], classified.report["tokens"]))
    test_words = int(texts.store.lengths[texts.test].sum())
    stages.append(_stage_row("test", time.monotonic() - started, test_words))
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
        "config": identity,
    }
    report.write_json(folder / "summary.json", result)
    _draw(folder, texts, settings, result)
    return result


def _identity(texts: Texts, settings: Settings) -> dict[str, Any]:
    """What decides the result, to record, and to compare on resume."""
    fields = {name: value for name, value in asdict(settings).items() if name not in NOT_RESULT}
    return report.to_json({**fields, "corpus": texts.fingerprint})


def _refuse_difference(folder: Path, identity: Mapping[str, Any]) -> None:
    old, new = flatten(report.read_json(folder / "config.json")), flatten(identity)
    if old.get("corpus") != new["corpus"]:
        raise InputError(f"the texts have changed since the run in {folder} began: put them back, or start a new run")
    differences = [
        f"{flag(name)} was {old.get(name)} and is now {new.get(name)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise InputError(
            f"the run in {folder} has other settings ({', '.join(differences)}): resume it with its own flags"
        )


def _language_model(texts: Texts, settings: Settings, run: Run) -> StageResult | None:
    """The language model that this run has trained or trains now; None where the stage is left out."""
    if not lm_plan(settings):
        return None
    result = run.finished(LANGUAGE_MODEL)
    if result is None:
        result = pretrain_lm(texts, settings, run)
        run.finish(LANGUAGE_MODEL, result)
    return result


def _borrowed_language_model(texts: Texts, settings: Settings) -> StageResult | None:
    """The language model of another run, if it fits this one: same texts, same splits, same sizes."""
    folder = settings.language_model
    if folder is None:
        return None
    result = read_stage(folder, LANGUAGE_MODEL)
    if result is None:
        raise InputError(f"--language-model {folder} holds no trained language model: name the folder of a run")
    theirs, ours = flatten(report.read_json(folder / "config.json")), flatten(_identity(texts, settings))
    # With other splits the language model could have read this run's dev texts.
    same = ("corpus", "seed", "transductive", "classifier.dev_fraction")
    for name in (*same, *(name for name in ours if name.startswith(("model.", "text.")))):
        if theirs.get(name) != ours[name]:
            raise InputError(
                f"the language model in {folder} was trained with another {name} ({theirs.get(name)}, here "
                f"{ours[name]}): give the same data and flags, or train one here"
            )
    lent, wanted = theirs.get("limit_labels"), settings.limit_labels
    if lent is not None and (wanted is None or wanted > lent):
        raise InputError(
            f"the language model in {folder} was trained with --limit-labels {lent} and may have read texts that this "
            f"run holds out: give --limit-labels {lent} or fewer here"
        )
    if Vocabulary.load(folder / "vocabulary.json") != texts.store.vocabulary:
        raise InputError(f"the language model in {folder} has another vocabulary: train one on these texts")
    return replace(result, report={**result.report, "seconds": 0.0, "tokens": 0})


def _stage_row(name: str, seconds: float, tokens: int) -> dict[str, Any]:
    return {"name": name, "seconds": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds if seconds else None}


def _pick(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: mapping[name] for name in names}


def _draw(folder: Path, texts: Texts, settings: Settings, result: Mapping[str, Any]) -> None:
    plots.plot_training(report.read_metrics(folder / "metrics.jsonl"), folder / "plots/training.png")
    for stage, (plan, steps) in plans(texts, settings).items():
        starts = np.cumsum([0, *(phase.epochs * steps for phase in plan[:-1])])
        boundaries = [(int(start), phase.name) for start, phase in zip(starts, plan, strict=True)]
        curves = phases.learning_rates(plan, steps)
        plots.plot_learning_rates(curves, boundaries, folder / f"plots/learning_rates_{stage}.png")
    plots.plot_confusion(result["test"]["confusion_matrix"], result["data"]["classes"], folder / "plots/confusion.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    settings = parse(arguments)
    enable_compilation_cache()
    if settings.dry_run:
        texts = read_texts(settings)
        print(preview(texts, settings, plans(texts, settings), encoder_config(texts, settings)))
        return
    print(summary.summary_table(train(settings)))
    print(f"\n{settings.out}: summary.json, metrics.jsonl, plots/ and model/; classify a text of your own with")
    print(f"python -m jaxft.predict {settings.out} --text '...'")


if __name__ == "__main__":
    run_job(main)
