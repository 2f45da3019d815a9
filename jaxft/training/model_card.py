"""The model card of a finished run: README.md in the folder of each of its models, as the Hugging Face hub shows it.

Language models of both directions have one more, in the folder of their run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxft.base.files import write_text
from jaxft.training.run_folder import without_folders

PLACE = "PATH-OR-NAME"
"""stands in a card for the folder or the name on the hub; `jaxft.push` fills it in"""
LANGUAGE_MODEL = "language_model"
"""start of the names of the folders of language models in a run"""
FINGERPRINTS = ("corpus", "checkpoint", "pseudo_labels")
"""entries of config.json that say nothing to a reader"""
PIPELINES = {
    "ulmfit": ("text-classification", "A ULMFiT text classifier"),
    "finetune": ("text-classification", "A fine-tuned transformer encoder"),
    "ner": ("token-classification", "A tagger of entities"),
    "pretrain": ("text-generation", "AWD-LSTM language model"),
}
"""what the hub calls the task of each job, and what its model is"""
TOLD = (
    "accuracy",
    "macro_f1",
    "micro_f1",
    "weighted_f1",
    "mcc",
    "roc_auc",
    "rmse",
    "mae",
    "pearson",
    "spearman",
    "log_loss",
)
"""scores that a card tells, where they were measured"""
USE = {
    "text-generation": 'print(model.generate("The film"))',
    "token-classification": 'model.predict("Ada Lovelace lived in London.")',
    "text-classification": 'model.predict("A lovely, warm film.")',
}


def write_cards(folder: Path, job: str, result: Mapping[str, Any]) -> None:
    """Writes the card of every model of a run.

    Args:
        folder: of the run.
        job: name of the job that trained them.
        result: the content of summary.json.

    Raises:
        InputError: a card cannot be written.
    """
    models = sorted(description.parent.name for description in folder.glob("*/model.json"))
    data = result["data"]["name"]
    for model in models:
        write_text(folder / model / "README.md", model_card(f"{data}-{model}", [model], job, result))
    if job == "pretrain" and len(models) > 1:  # `jaxft.push` uploads them together
        write_text(folder / "README.md", model_card(f"{data}-language_models", models, job, result))


def model_card(name: str, models: Sequence[str], job: str, result: Mapping[str, Any]) -> str:
    """The text of a card: what the model is, its data and scores, how to use it, and the settings.

    Args:
        name: of the model.
        models: its folder in the run; of language models that belong together, that of each direction.
        job: the job that trained it.
        result: the content of summary.json.
    """
    from huggingface_hub import EvalResult, ModelCardData

    kind = "pretrain" if models[0].startswith(LANGUAGE_MODEL) else job  # the job that trains such a model alone
    pipeline, what = PIPELINES[kind]
    if kind == "pretrain":
        what = f"{' and '.join(f'a {_direction(model)}' for model in models).capitalize()} {what}"
    data = result["data"]
    scores = _perplexities(result, models) if kind == "pretrain" else _test_scores(result)
    evaluations = [
        EvalResult(
            task_type=pipeline,
            dataset_type="custom",
            dataset_name=data["name"],
            metric_type=score.partition(",")[0],
            metric_name=score.replace("_", " "),
            metric_value=round(value, 6),
            metric_args={"interval_95": interval} if interval else None,
        )
        for score, (value, interval) in scores.items()
    ]
    metadata = ModelCardData(
        library_name="jaxft",
        pipeline_tag=pipeline,
        tags=["jaxft", "jax", *(["ulmfit"] if kind in ("ulmfit", "pretrain") else [])],
        model_name=name if evaluations else None,
        eval_results=evaluations or None,
    )
    sections = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {name}",
        f"{what}, trained by `jaxft {job}` on {data['name']}.",
        _data_section(data, kind),
        _score_section(result, scores, kind),
        f"## Use\n\n```python\nimport jaxft\n\nmodel = jaxft.load({PLACE!r})\n{USE[pipeline]}\n```",
        _fine_tuning(models) if kind == "pretrain" else "",
        _settings_section(result["config"]),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _test_scores(result: Mapping[str, Any]) -> dict[str, tuple[float, list[float] | None]]:
    """The scores on the test texts by name, with the 95 % interval where there is one."""
    test = result.get("test", {})
    return {
        name: (float(test[name]), _interval(test.get(f"{name}_interval")))
        for name in TOLD
        if isinstance(test.get(name), int | float)
    }


def _perplexities(result: Mapping[str, Any], models: Sequence[str]) -> dict[str, tuple[float, None]]:
    """The perplexities of language models; the names of two say which direction each is of."""
    measured = {model: result[model]["perplexity"] for model in models if "perplexity" in result.get(model, {})}
    names = {model: f"perplexity, {_direction(model)}" if len(models) > 1 else "perplexity" for model in models}
    return {names[model]: (perplexity, None) for model, perplexity in measured.items()}


def _direction(model: str) -> str:
    return "backward" if model.endswith("backward") else "forward"


def _fine_tuning(models: Sequence[str]) -> str:
    """How language models begin a classifier."""
    if len(models) > 1:
        return (
            f"`jaxft.load` loads the forward one. `jaxft ulmfit --pretrained {PLACE} --direction both` fine-tunes both "
            "for a classifier."
        )
    backward = " --direction backward" if _direction(models[0]) == "backward" else ""
    return f"`jaxft ulmfit --pretrained {PLACE}{backward}` fine-tunes it for a classifier."


def _interval(bounds: Any) -> list[float] | None:
    return None if bounds is None else [round(float(bound), 6) for bound in bounds]


def _data_section(data: Mapping[str, Any], kind: str) -> str:
    sizes = [f"| {name} | {count:,} |" for name, count in data.get("sizes", {}).items() if count]
    classes = data.get("classes") if kind != "pretrain" else None
    names = f"\n\n{len(classes)} classes: {', '.join(classes[:20])}{', ...' * (len(classes) > 20)}" if classes else ""
    return "## Data\n\n| part | size |\n|---|---|\n" + "\n".join(sizes) + names


def _score_section(result: Mapping[str, Any], scores: Mapping[str, Any], kind: str) -> str:
    if not scores:
        return ""
    rows = []
    for name, (value, interval) in scores.items():
        bounds = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        rows.append(f"| {name.replace('_', ' ')} | {value:.4f} | {bounds} |")
    measured = "texts held out from the language model" if kind == "pretrain" else "test texts, scored once"
    baseline = result.get("baseline", {}) if kind != "pretrain" else {}
    beside = f"\n\n{baseline['method']} on the same texts: {baseline['accuracy']:.4f}" if "accuracy" in baseline else ""
    head = f"## Scores\n\nOn {measured}.\n\n| score | value | 95 % interval |\n|---|---|---|\n"
    return head + "\n".join(rows) + beside


def _settings_section(config: Mapping[str, Any]) -> str:
    told = without_folders({name: value for name, value in config.items() if name not in FINGERPRINTS})
    return f"## Settings\n\n```json\n{json.dumps(told, indent=2, ensure_ascii=False)}\n```"
