"""The model card of a finished run: README.md in the folder of each of its models, as the Hugging Face hub shows it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.files import write_text
from jaxft.training.run_folder import without_folders

PLACE = "PATH-OR-NAME"
"""stands in a card for the folder or the name on the hub; `jaxft.push` fills it in"""
FINGERPRINTS = ("corpus", "checkpoint")
"""entries of config.json that say nothing to a reader"""
PIPELINES = {
    "ulmfit": ("text-classification", "A ULMFiT text classifier"),
    "finetune": ("text-classification", "A fine-tuned transformer encoder"),
    "ner": ("token-classification", "A tagger of entities"),
    "pretrain": ("text-generation", "An AWD-LSTM language model"),
}
"""what the hub calls the task of each job, and what its model is"""
TOLD = ("accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc", "rmse", "mae", "pearson", "spearman", "log_loss")
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
    for description in sorted(folder.glob("*/model.json")):
        model = description.parent
        kind = "pretrain" if model.name.startswith("language_model") else job
        write_text(model / "README.md", model_card(f"{result['data']['name']}-{model.name}", kind, job, result))


def model_card(name: str, kind: str, job: str, result: Mapping[str, Any]) -> str:
    """The text of a card: what the model is, its data and scores, how to use it, and the settings.

    Args:
        name: of the model.
        kind: the job that trains such a model alone, a key of `PIPELINES`.
        job: the job that trained it.
        result: the content of summary.json.
    """
    from huggingface_hub import EvalResult, ModelCardData

    pipeline, what = PIPELINES[kind]
    data = result["data"]
    scores = _scores(result, kind)
    evaluations = [
        EvalResult(
            task_type=pipeline,
            dataset_type="custom",
            dataset_name=data["name"],
            metric_type=score,
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
        _settings_section(result["config"]),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _scores(result: Mapping[str, Any], kind: str) -> dict[str, tuple[float, list[float] | None]]:
    """The scores on the test texts by name, with the 95 % interval where there is one."""
    if kind == "pretrain":
        models = [value for name, value in result.items() if name.startswith("language_model")]
        return {"perplexity": (models[0]["perplexity"], None)} if models and "perplexity" in models[0] else {}
    test = result.get("test", {})
    return {
        name: (float(test[name]), _interval(test.get(f"{name}_interval")))
        for name in TOLD
        if isinstance(test.get(name), int | float)
    }


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
