"""Exports a finished run of ULMFiT, with what its models answer, for `make_fastai_models.py check` to compare:

python tests/golden/export_for_fastai.py RUN FOLDER
python tests/golden/make_fastai_models.py check FOLDER    # where torch and fastai are installed
"""

import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxft
from jaxft import export
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.text_classifier import TextClassifier
from jaxft.models.awd_lstm import initial_carry


def main(run: Path, folder: Path) -> None:
    """Writes the export and expected.json."""
    export.main([str(run), "--output", str(folder)])
    language_model, classifier = jaxft.load(run / "language_model"), jaxft.load(run)
    assert isinstance(language_model, TextLanguageModel)
    assert isinstance(classifier, TextClassifier)
    rng, words = np.random.default_rng(0), language_model.config.vocabulary_size
    windows = rng.integers(2, words, (2, 4, 7))
    model, carry, logits = (
        nnx.merge(language_model.graphdef, language_model.params),
        initial_carry(language_model.config, 4),
        [],
    )
    for window in windows:
        answer, carry = model(jnp.asarray(window), carry)
        logits.append(np.asarray(answer).tolist())
    documents = [rng.integers(2, words, n) for n in (31, 24, 17, 8, 5, 3)]
    tokens = np.stack([np.pad(document, (32 - len(document), 0), constant_values=1) for document in documents])
    batch = {"tokens": tokens, "lengths": np.array([len(document) for document in documents])}
    answers = classifier.logits(classifier.params, classifier.statistics, None, batch)
    expected = {
        "embedding_size": language_model.config.embedding_size,
        "hidden_size": language_model.config.hidden_size,
        "num_layers": language_model.config.num_layers,
        "head_hidden": classifier.head_hidden,
        "windows": windows.tolist(),
        "logits": logits,
        "documents": [document.tolist() for document in documents],
        "answers": np.asarray(answers).tolist(),
    }
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
