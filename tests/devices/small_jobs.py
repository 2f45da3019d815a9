"""Small jobs on made-up data, and what their runs have learnt."""

from pathlib import Path

import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from jaxft.base.tensor_files import save_params
from jaxft.models.bert_config import bert_config
from jaxft.models.hugging_face import to_checkpoint
from jaxft.models.transformer import Transformer
from tests.checkpoints import config_of, write_json, write_tokenizer
from tests.finetune.toy import review, table
from tests.ner.toy import write_parts

LANGUAGE_MODEL = "--lm.epochs 1 --lm.batch-size 8 --lm.bptt 20 --model.num-layers 2".split()  # noqa: SIM905
LANGUAGE_MODEL += ["--lm.drop-mult", "1"]
CLASSIFIER = "--no-baseline --classifier.epochs 1 --classifier.phase-epochs 1 --classifier.phase-steps 0".split()  # noqa: SIM905
CLASSIFIER += ["--classifier.batch-size", "16", "--classifier.drop-mult", "1"]
FINETUNE = "--max-length 20 --train.min-steps 0 --train.epochs 2 --train.head random --no-baseline".split()  # noqa: SIM905
TAGGER = "--train.min-steps 0 --train.epochs 2 --train.batch-size 16 --model.min-count 1".split()  # noqa: SIM905
SMALL, LARGE = ("16", "24"), ("64", "256")
"""sizes of embedding and layers; the gradients of the large ones are above a megabyte"""

BOUND = 1e-5
"""largest difference of 999 in 1,000 parameters, most of which are around 0.1, and a tenth of that of the others: Adam
divides a gradient by its size, which makes a part of a step of the rounding of one that is almost 0"""


def flags_of_jobs(folder: Path) -> dict[str, list[str]]:
    """The flags of each job for some made-up data, which are written into the folder."""
    rng = np.random.default_rng(0)
    words = "the a film was is good bad fine dull".split()  # noqa: SIM905
    (folder / "text.txt").write_text("\n".join(" ".join(rng.choice(words, 30)) for _ in range(400)))
    reviews = table(folder / "reviews.csv", 120, review)
    return {
        "pretrain": ["--text", str(folder / "text.txt"), *LANGUAGE_MODEL],
        "ulmfit": ["--data", reviews, "--preset", "small", "--text.min-count", "1", *CLASSIFIER, *LANGUAGE_MODEL],
        "finetune": ["--data", reviews, *FINETUNE],
        "ner": ["--data", write_parts(folder), *TAGGER],
    }


def encoder(folder: Path, hidden: int, vocabulary: int) -> str:
    """A BERT of one layer with random weights."""
    folder.mkdir()
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "vocab_size": vocabulary, "num_hidden_layers": 1}
    settings = config_of("bert", **sizes)
    write_json(folder / "config.json", settings)
    write_tokenizer(folder, "vocab.txt")
    params = nnx.to_pure_dict(
        nnx.state(Transformer(bert_config(settings, "bert", "bert", True, None, "f32"), nnx.Rngs(0)))
    )
    save_params(folder / "model.safetensors", to_checkpoint(params, "bert"), {})
    return str(folder)


def flags_of(job: str, inputs: dict[str, list[str]], folder: Path, sizes: tuple[str, str]) -> list[str]:
    exact = [*inputs[job], "--precision", "f32"]  # the programs take what the processor multiplies
    if job == "finetune":
        vocabulary = 400 if sizes == SMALL else 4000
        return [*exact, "--model", encoder(folder / "encoder", int(sizes[0]), vocabulary)]
    features, units = sizes
    names = ("embedding-size", "lstm-size") if job == "ner" else ("embedding-size", "hidden-size")
    return [*exact, f"--model.{names[0]}", features, f"--model.{names[1]}", units]


def weights(run: Path) -> dict[str, np.ndarray]:
    """The weights of the models in the folder of a run.

    The bias of an attention's keys is left out: its gradient is rounding alone, which Adam divides by its size.
    """
    files = [path for path in sorted(run.rglob("model.safetensors")) if "stage-" not in path.name]
    assert files
    arrays = {f"{path.relative_to(run)} {name}": x for path in files for name, x in load_file(path).items()}
    return {name: x for name, x in arrays.items() if not name.endswith("key.bias")}


def differences(one: Path, many: Path) -> np.ndarray:
    """The absolute difference of every parameter."""
    first, second = weights(one), weights(many)
    assert first.keys() == second.keys()
    return np.abs(np.concatenate([(x.astype(np.float64) - second[name]).ravel() for name, x in first.items()]))


def assert_close(one: Path, many: Path) -> None:
    assert np.quantile(differences(one, many), 0.999) < BOUND
    assert differences(one, many).max() < 10 * BOUND
