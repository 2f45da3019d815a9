"""Small valid inputs of every kind, each in a folder of its own, and the commands that read them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
from flax import nnx

from jaxft import export, predict
from jaxft.data.corpus import open_corpus
from jaxft.data.pieces import load_tokenizer
from jaxft.data.store import build_store
from jaxft.data.vocabulary import Vocabulary
from jaxft.finetune.job import JOB as FINETUNE_JOB
from jaxft.finetune.settings import COMMAND as FINETUNE
from jaxft.inference.encoder import EncoderModel
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.text_classifier import TextClassifier
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel
from jaxft.models.encoders import open_checkpoint
from jaxft.models.heads import Classifier
from jaxft.models.options import NO_DROPOUT
from jaxft.models.torch_writer import write_state
from jaxft.ner.inputs import read_inputs
from jaxft.ner.job import JOB as NER_JOB
from jaxft.ner.settings import COMMAND as NER
from jaxft.ner.stages import as_model
from jaxft.pretrain.job import JOB as PRETRAIN_JOB
from jaxft.pretrain.settings import COMMAND as PRETRAIN
from jaxft.training.arguments import settings_from
from jaxft.training.command_line import Command
from jaxft.training.job import Job
from jaxft.training.metrics_log import read_metrics
from jaxft.training.run import Run, StageResult
from jaxft.training.run_folder import record_config
from jaxft.ulmfit.job import JOB as ULMFIT_JOB
from jaxft.ulmfit.presets import COMMAND as ULMFIT
from tests.checkpoints import ARCHITECTURES, TOKENIZERS, WITHOUT_POOLER, weights_of, write_checkpoint
from tests.data.corpus_files import aclimdb_tar, tar_bytes, write, write_folder
from tests.data.tagged_forms import FORMS, TRUTH

FOLDER = "{}"
"""the folder of the input in the arguments of a command"""
WORDS = ("good", "bad", "film", "so", "and", "the", "was", "in", "then")


@dataclass(frozen=True)
class Target:
    """A valid input and a command that reads it.

    Attributes:
        name: what the input is.
        write: writes it in an empty folder.
        command: reads it from its folder.
        at_rest: names of files that are not to be damaged.
    """

    name: str
    write: Callable[[Path], object]
    command: Callable[[Path], object]
    at_rest: tuple[str, ...] = ()

    def files(self, folder: Path) -> list[str]:
        """The files that may be damaged, by their paths in the folder."""
        found = (str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file())
        return [name for name in found if not name.startswith(self.at_rest or "\0")]


def arguments(main: Callable[[Sequence[str]], object], line: str) -> Callable[[Path], object]:
    """A command with the arguments of a line, in which `{}` is the folder."""
    return lambda folder: main([word.replace(FOLDER, str(folder)) for word in line.split()])


def reading(job: Job, command: Command[Any], **given: Any) -> Callable[[Path], None]:
    """What a job reads before it trains, and says of it; `{}` is the folder in its settings."""

    def read(folder: Path) -> None:
        paths = {name: value.format(folder) for name, value in given.items() if isinstance(value, str)}
        settings = {**given, **paths, **({"files": [paths["files"]]} if "files" in paths else {})}
        print("\n".join(job.prepare(settings_from(command, settings), None).lines))

    return read


def review_rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    splits = ["train"] * 18 + ["test"] * 4 + ["unlabelled"] * 2
    rows = []
    for number, split in enumerate(splits):
        label = "" if split == "unlabelled" else ("pos", "neg")[number % 2]
        words = rng.choice(WORDS, rng.integers(3, 12)).tolist()
        rows.append({"text": f'{" ".join(words)}, "{number}".', "label": label, "split": split})
    return rows


def delimited(delimiter: str) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["text", "label", "split"], delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(review_rows())
    return stream.getvalue().encode()


def zstandard(content: bytes) -> bytes:
    return pyarrow.compress(content, "zstd", asbytes=True)


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(review_rows()), sink)
    return sink.getvalue()


def arrow(compression: str) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(pyarrow.Table.from_pylist(review_rows()), sink, compression=compression)
    return sink.getvalue()


def table_bytes() -> dict[str, bytes]:
    lines = "".join(json.dumps(row) + "\n" for row in review_rows()).encode()
    return {
        "reviews.csv": delimited(","),
        "reviews.tsv": delimited("\t"),
        "reviews.jsonl": lines,
        "reviews.json": json.dumps(review_rows(), indent=1).encode(),
        "reviews.parquet": parquet(),
        "reviews.arrow": arrow("uncompressed"),
        "reviews.feather": arrow("zstd"),
        "reviews.csv.gz": gzip.compress(delimited(",")),
        "reviews.tsv.xz": lzma.compress(delimited("\t")),
        "reviews.jsonl.bz2": bz2.compress(lines),
        "reviews.json.zst": zstandard(json.dumps(review_rows()).encode()),
    }


def plain_text() -> bytes:
    rng = np.random.default_rng(0)
    return "".join(" ".join(rng.choice(WORDS, 9)) + ".\n\n" for _ in range(300)).encode()


def tables() -> Iterator[Target]:
    """A table in each format, read by each job that reads tables."""
    for name, content in table_bytes().items():

        def write_table(folder: Path, name: str = name, content: bytes = content) -> None:
            write(folder / name, content)

        yield Target(name, write_table, reading(ULMFIT_JOB, ULMFIT, data=f"{{}}/{name}"))

        def write_both(folder: Path, write_table: Callable[[Path], None] = write_table) -> None:
            write_table(folder)
            write_checkpoint(folder / "encoder", vocab_size=320)

        read = reading(FINETUNE_JOB, FINETUNE, model="{}/encoder", data=f"{{}}/{name}", max_length=16)
        yield Target(f"{name}, encoder", write_both, read, ("encoder",))

        def write_input(folder: Path, write_table: Callable[[Path], None] = write_table) -> None:
            write_table(folder)
            classifier().save(folder / "model")

        line = f"{{}}/model --input {{}}/{name} --output {{}}/answers.csv"
        yield Target(f"{name}, predict", write_input, partial(answers, arguments(predict.main, line)), ("model",))


def answers(command: Callable[[Path], object], folder: Path) -> None:
    """Predicts, and prints the answers."""
    command(folder)
    print((folder / "answers.csv").read_text(encoding="utf-8"))


def corpora() -> Iterator[Target]:
    """Folders, archives and plain texts."""
    text = plain_text()
    files = {
        "text.txt": text,
        "text.txt.gz": gzip.compress(text),
        "text.txt.xz": lzma.compress(text),
        "text.md.bz2": bz2.compress(text),
        "text.txt.zst": zstandard(text),
        "text.tar": tar_bytes({"a.txt": text, "b/c.md": text}),
        "text.tar.gz": gzip.compress(tar_bytes({"a.txt": text, "b/c.md": text})),
    }
    for name, content in files.items():
        yield Target(
            name,
            lambda folder, name=name, content=content: write(folder / name, content),
            reading(PRETRAIN_JOB, PRETRAIN, files=f"{{}}/{name}"),
        )
    read = reading(ULMFIT_JOB, ULMFIT, data="{}/aclImdb")
    yield Target("folder of IMDB", lambda folder: write_folder(folder / "aclImdb"), read)
    tar = aclimdb_tar()
    for name, content in {"imdb.tar": tar, "imdb.tgz": gzip.compress(tar), "imdb.tar.zst": zstandard(tar)}.items():
        yield Target(
            name,
            lambda folder, name=name, content=content: write(folder / name, content),
            reading(ULMFIT_JOB, ULMFIT, data=f"{{}}/{name}"),
        )

    def write_classes(folder: Path) -> None:
        for number, row in enumerate(review_rows()):
            write(folder / f"data/{row['split']}/{row['label'] or 'all'}/{number}.txt", row["text"])

    yield Target("folders of classes", write_classes, reading(ULMFIT_JOB, ULMFIT, data="{}/data"))


def tagged() -> Iterator[Target]:
    """Tagged sentences in every form."""
    for name, (file, form) in FORMS.items():
        content = form(TRUTH * 4)
        yield Target(
            f"tagged: {name}",
            lambda folder, file=file, content=content: write(folder / file, content),
            reading(NER_JOB, NER, data=f"{{}}/{file}", dev_fraction=0.2),
        )


def checkpoints() -> Iterator[Target]:
    """Checkpoints of every architecture, with every kind of tokenizer, in both formats of weights."""

    def write_all(folder: Path, architecture: str, tokenizer: str, pickled: bool) -> None:
        pooler = architecture not in WITHOUT_POOLER
        write_checkpoint(folder / "encoder", architecture, "sequence", pooler, tokenizer)
        if pickled:
            (folder / "encoder/model.safetensors").unlink()
            write_state(folder / "encoder/pytorch_model.bin", weights_of(architecture, "sequence", pooler))
        write(folder / "reviews.csv", delimited(","))

    read = reading(FINETUNE_JOB, FINETUNE, model="{}/encoder", data="{}/reviews.csv", max_length=16)
    tokenizers = [kind for kind in TOKENIZERS if kind not in ("no cls", "slow")]
    for number, architecture in enumerate(ARCHITECTURES):
        kind = "bytes" if architecture == "modernbert" else tokenizers[number % len(tokenizers)]
        yield Target(
            f"{architecture}, {kind}",
            partial(write_all, architecture=architecture, tokenizer=kind, pickled=number % 2 == 1),
            read,
            ("reviews.csv",),
        )

    def write_fastai(folder: Path, weights: str) -> None:
        (folder / "start").mkdir()
        for name in (weights, "itos.pkl"):
            shutil.copy(Path(__file__).parents[1] / "golden/fastai" / name, folder / "start" / name)
        write(folder / "reviews.csv", delimited(","))

    for weights in ("lm_zip.pth", "lm_legacy.pth"):
        read = reading(ULMFIT_JOB, ULMFIT, pretrained=f"{{}}/start/{weights}", data="{}/reviews.csv")
        yield Target(f"fastai, {weights}", partial(write_fastai, weights=weights), read, ("reviews.csv",))


@cache
def classifier() -> TextClassifier:
    vocabulary = Vocabulary.build(dict.fromkeys(WORDS, 9))
    config = AWDLSTMConfig(len(vocabulary), 4, 6, 2)
    module = Classifier(config, 2, NO_DROPOUT, nnx.Rngs(0), head_hidden=5, max_length=12, bptt=4)
    params, statistics = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))
    return TextClassifier(config, ("neg", "pos"), 5, 12, 4, vocabulary, params, statistics, batch_size=4)


@cache
def language_model() -> TextLanguageModel:
    vocabulary = Vocabulary.build(dict.fromkeys(WORDS, 9))
    config = AWDLSTMConfig(len(vocabulary), 5, 7, 2)
    params = nnx.to_pure_dict(nnx.state(LanguageModel(config, NO_DROPOUT, nnx.Rngs(0))))
    return TextLanguageModel(config, vocabulary, params)


def encoder_model(folder: Path) -> EncoderModel:
    write_checkpoint(folder)
    return EncoderModel(open_checkpoint(folder, 2), load_tokenizer(folder), "classification", ("neg", "pos"), 20)


def write_tagger(folder: Path, work: Path) -> None:
    file, form = FORMS["columns, spaces"]
    data = write(work / file, form(TRUTH * 4))
    settings = settings_from(NER, {"data": str(data), "model": {"min_count": 1, "lstm_size": 4}})
    inputs = read_inputs(settings)
    as_model(inputs, settings, inputs.fns.init(0)).save(folder)


def models(work: Path) -> Iterator[Target]:
    """Finished models of every kind."""
    predicts = arguments(predict.main, "{} --text good")
    yield Target("model of ulmfit", lambda folder: classifier().save(folder / "model"), predicts)
    yield Target("model of ulmfit, export", lambda folder: classifier().save(folder / "model"), export_to)
    writes = arguments(predict.main, "{} --generate good --words 4")
    yield Target("language model", lambda folder: language_model().save(folder / "language_model"), writes)
    yield Target("encoder", lambda folder: encoder_model(work / "encoder").save(folder / "model"), predicts)
    both = Ensemble({"forward": classifier(), "backward": classifier()})
    yield Target("ensemble", lambda folder: both.save(folder / "model"), predicts)
    yield Target("tagger", lambda folder: write_tagger(folder / "model", work), predicts)

    def write_start(folder: Path) -> None:
        language_model().save(folder / "start/language_model")
        write(folder / "start/config.json", json.dumps({"corpus": "0", "seed": 0}))
        write(folder / "reviews.csv", delimited(","))

    read = reading(ULMFIT_JOB, ULMFIT, pretrained="{}/start", data="{}/reviews.csv")
    yield Target("start from a run", write_start, read, ("reviews.csv",))


def export_to(folder: Path) -> None:
    export.main([str(folder), "--output", str(folder / "exported")])


TREE = {"w": jnp.arange(6.0).reshape(2, 3), "layers": {0: jnp.ones(4, jnp.bfloat16)}}


def runs() -> Iterator[Target]:
    """What a run keeps to be resumed, and the cache of texts."""

    def write_run(folder: Path) -> None:
        (folder / "run").mkdir()
        with Run(folder / "run", log_every=1) as run:
            run.finish({"lm": StageResult(TREE, (), {"steps": 3})})
            for step in (1, 2):
                run.write("classifier", step, loss=0.5)
                run.save(TREE, {"stage": "classifier", "step": step})

    def resume(folder: Path) -> None:
        with Run(folder / "run") as run:
            position = run.position("classifier")
            assert not position or position["step"] in (1, 2)
            if position:
                assert jax.tree.all(jax.tree.map(np.array_equal, run.restore(TREE), TREE))
            if (finished := run.finished("lm")) is not None:
                assert jax.tree.all(jax.tree.map(np.array_equal, finished.params, TREE))
        for line in read_metrics(folder / "run/metrics.jsonl"):
            print(json.dumps(line))

    yield Target("folder of a run", write_run, resume)

    def write_settings(folder: Path) -> None:
        (folder / "run").mkdir()
        record_config(folder / "run", False, SETTINGS)

    yield Target("settings of a run", write_settings, lambda folder: record_config(folder / "run", True, SETTINGS))

    first: list[list[Any]] = []

    def open_cache(folder: Path) -> None:
        write(folder / "reviews.csv", delimited(","))
        store = build_store(open_corpus(str(folder / "reviews.csv")), folder / "cache", min_count=1, progress=False)
        arrays = (store.ids, store.offsets, store.labels, store.splits, store.keys)
        first.append([store.classes, store.vocabulary, *(array.tolist() for array in arrays)])
        assert first[-1] == first[0]

    yield Target("cache of texts", open_cache, open_cache, ("reviews.csv",))


SETTINGS = {"data": "reviews.csv", "train": {"epochs": 3, "peak_rate": 0.1}, "corpus": "0"}
