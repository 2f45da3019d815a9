"""Makes `fastai/`: small models of fastai 2 in the formats that it and fastai 1 write, and what they answer.

Run by hand in an environment with torch and fastai, from any folder:

    python tests/golden/make_fastai_models.py

and, to check that fastai reads what jaxft exports and gives the same logits, with the folder of an export,

    python tests/golden/make_fastai_models.py check FOLDER

where `export_for_fastai.py` has made the folder.
"""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from fastai.text.all import (  # pyright: ignore[reportMissingImports]
    AWD_LSTM,
    L,
    awd_lstm_clas_config,
    awd_lstm_lm_config,
    get_language_model,
    get_text_classifier,
    pad_chunk,
)

FOLDER = Path(__file__).parent / "fastai"
TOKENS = ["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxrep", "xxwrep", "xxup", "xxmaj", *"abcdefg", "xxfake"]
CLASSES, BPTT, MAX_LENGTH, PAD = 3, 8, 40, 1


def main() -> None:
    """Writes the models and their answers."""
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = language_model(len(TOKENS), 6, 10, 3)
    torch.nn.init.normal_(model[1].decoder.bias)
    windows = torch.randint(2, len(TOKENS), (2, 4, 7))  # two windows of 4 rows
    model.reset()
    with torch.no_grad():
        logits = [model(window)[0].numpy() for window in windows]
    carry = [[state.numpy()[0] for state in layer] for layer in model[0].hidden]
    optimizer = {"state": [{}], "hypers": L([{"lr": np.float64(1e-3), "wd": 0.01}])}  # as learn.save adds it
    torch.save({"model": model.state_dict(), "opt": optimizer}, FOLDER / "lm_zip.pth")
    state = model.state_dict()
    for i in range(3):  # as the published files have it
        state[f"0.rnns.{i}.module.weight_hh_l0"] = state[f"0.rnns.{i}.weight_hh_l0_raw"] * 0.5
    torch.save({"model": state, "opt": optimizer}, FOLDER / "lm_legacy.pth", _use_new_zipfile_serialization=False)
    (FOLDER / "itos.pkl").write_bytes(pickle.dumps(TOKENS))

    torch.manual_seed(1)
    classifier = text_classifier(len(TOKENS), 6, 10, 3, CLASSES)
    for name, buffer in classifier.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    for name, parameter in classifier.named_parameters():
        if name.startswith("1.") and parameter.ndim == 1:
            torch.nn.init.normal_(parameter)
    documents = [torch.randint(2, len(TOKENS), (n,)) for n in (31, 24, 17, 8, 5, 3)]
    answers = answer(classifier, documents)
    torch.save(classifier.state_dict(), FOLDER / "classifier_2.pth")
    torch.save(as_fastai_1(classifier.state_dict()), FOLDER / "classifier_1.pth")
    expected = {
        "windows": windows.tolist(),
        "logits": np.stack(logits).tolist(),
        "carry": [[state.tolist() for state in layer] for layer in carry],
        "documents": [document.tolist() for document in documents],
        "answers": answers.tolist(),
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected))


def language_model(vocabulary: int, embedding: int, hidden: int, layers: int) -> torch.nn.Module:
    """fastai's language model, ready to evaluate."""
    config = {**awd_lstm_lm_config, "emb_sz": embedding, "n_hid": hidden, "n_layers": layers}
    return get_language_model(AWD_LSTM, vocabulary, config).eval()


def text_classifier(
    vocabulary: int, embedding: int, hidden: int, layers: int, classes: int, head: int = 5
) -> torch.nn.Module:
    """fastai's classifier, ready to evaluate."""
    config = {**awd_lstm_clas_config, "emb_sz": embedding, "n_hid": hidden, "n_layers": layers}
    return get_text_classifier(
        AWD_LSTM, vocabulary, classes, seq_len=BPTT, max_len=MAX_LENGTH, config=config, lin_ftrs=[head], ps=[0.1]
    ).eval()


def answer(classifier: torch.nn.Module, documents: list[torch.Tensor]) -> np.ndarray:
    """Logits of documents, longest first, padded as fastai's data loaders do."""
    width = -(-max(map(len, documents)) // BPTT) * BPTT
    batch = torch.stack([pad_chunk(d, pad_idx=PAD, seq_len=BPTT, pad_len=width) for d in documents])
    classifier.reset()
    with torch.no_grad():
        return classifier(batch)[0].numpy()


def as_fastai_1(state: dict) -> dict:
    """The same classifier with the head's layers in one row, its linear layers with the biases that fastai 1 has."""
    numbers = {"0.0": "0", "0.2": "2", "1.0": "4", "1.2": "6"}
    renamed = {}
    for key, value in state.items():
        _, _, place = key.partition("1.layers.")
        renamed[f"1.layers.{numbers[place[:3]]}{place[3:]}" if key.startswith("1.") else key] = value
    for norm, linear in (("0", "2"), ("4", "6")):  # biases that the norm before takes back, so that answers stay
        shift = torch.randn_like(renamed[f"1.layers.{norm}.bias"])
        renamed[f"1.layers.{norm}.bias"] = renamed[f"1.layers.{norm}.bias"] - shift
        renamed[f"1.layers.{linear}.bias"] = renamed[f"1.layers.{linear}.weight"] @ shift
    return renamed


def check(folder: Path) -> None:
    """Loads an export with fastai's own classes and compares its answers with those that were exported with it."""
    expected = json.loads((folder / "expected.json").read_text())
    with (folder / "itos.pkl").open("rb") as file:
        tokens = pickle.load(file)
    sizes = (len(tokens), expected["embedding_size"], expected["hidden_size"], expected["num_layers"])
    model = language_model(*sizes)
    model.load_state_dict(torch.load(folder / "language_model.pth", weights_only=True))
    model.reset()
    with torch.no_grad():
        logits = np.stack([model(torch.tensor(window))[0].numpy() for window in expected["windows"]])
    print("language model: largest difference", np.abs(logits - np.array(expected["logits"])).max())
    if "answers" in expected:
        classifier = text_classifier(*sizes, len(expected["answers"][0]), expected["head_hidden"])
        classifier.load_state_dict(torch.load(folder / "classifier.pth", weights_only=True))
        answers = answer(classifier, [torch.tensor(document) for document in expected["documents"]])
        print("classifier: largest difference", np.abs(answers - np.array(expected["answers"])).max())


if __name__ == "__main__":
    check(Path(sys.argv[2])) if sys.argv[1:2] == ["check"] else main()
