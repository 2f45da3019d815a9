"""Tiny checkpoints as others publish them: every architecture, head and kind of tokenizer, with random weights.

The names of the weights are those of `transformers/models/*/modeling_*.py`, written down once more, so that a wrong
name in the package does not hide.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

ARCHITECTURES = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "albert", "mpnet"),
    *("deberta-v2", "modernbert"),
)
WITHOUT_POOLER = ("distilbert", "electra", "deberta-v2", "modernbert")
"""architectures without a pooler but that of their heads"""
CLASSES = {"xlm-roberta": "XLMRoberta", "distilbert": "DistilBert", "mpnet": "MPNet", "deberta-v2": "DebertaV2"}
CLASSES |= {"modernbert": "ModernBert"}
"""what the names of classes begin with where that is not the architecture's name, capitalized"""
HEADS = ("none", "sequence", "masked", "token", "question", "pretraining")
TOKENIZERS = ("wordpiece", "vocab.txt", "bytes", "unigram", "no cls", "slow")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("good", "bad", "film", "ada", "byron", "rome", "so", "then", "and", "in", "the", "was")
ROWS = 320
"""rows of the matrix of word embeddings; the tokenizers have at most as many pieces"""
SIZE, INNER, LAYERS = 8, 12, 2

SMALL_EMBEDDINGS = ("electra", "albert")
"""architectures whose embeddings are smaller than the layers"""
State = dict[str, np.ndarray]


def prefix_of(architecture: str) -> str:
    """What the names of the encoder's weights begin with below a head."""
    names = {"xlm-roberta": "roberta", "camembert": "roberta", "deberta-v2": "deberta", "modernbert": "model"}
    return names.get(architecture, architecture)


def class_of(architecture: str, task: str) -> str:
    """The class of transformers for a task, such as BertForMaskedLM."""
    return f"{CLASSES.get(architecture, architecture.capitalize())}For{task}"


def config_of(architecture: str, **changes: Any) -> dict[str, Any]:
    """The content of config.json."""
    shared = {"model_type": architecture, "vocab_size": ROWS, "max_position_embeddings": 40, "initializer_range": 0.02}
    if architecture == "distilbert":
        sizes = {"dim": SIZE, "hidden_dim": INNER, "n_layers": LAYERS, "n_heads": 2, "pad_token_id": 0}
        return {**shared, **sizes, **changes}
    sizes = {"hidden_size": SIZE, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    small = {"embedding_size": 4} if architecture in SMALL_EMBEDDINGS else {}
    pad = 1 if prefix_of(architecture) in ("roberta", "mpnet") else 0
    if architecture == "modernbert":
        kinds = {"global_attn_every_n_layers": 2, "local_attention": 4, "classifier_pooling": "mean", "pad_token_id": 0}
        return {**shared, **sizes, **kinds, **changes}
    if architecture == "deberta-v2":
        parts = {"relative_attention": True, "pos_att_type": "p2c|c2p", "share_att_key": True, "position_buckets": 4}
        kinds = {"norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0, "pad_token_id": 0}
        return {**shared, **sizes, **parts, **kinds, **changes}
    return {**shared, **sizes, **small, "type_vocab_size": 2, "pad_token_id": pad, **changes}


def weights_of(architecture: str, head: str = "none", pooler: bool = False) -> State:
    """The weights, by the names that `transformers` gives them."""
    rng, state = np.random.default_rng(0), {}

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.05, shape).astype(np.float32)

    def dense(name: str, inputs: int, outputs: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = normal(outputs, inputs), normal(outputs)

    def norm(name: str, size: int = SIZE) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = np.ones(size, np.float32), normal(size)

    prefix = prefix_of(architecture)
    start = "" if head == "none" else f"{prefix}."
    if architecture == "modernbert":
        _add_modernbert(start, head, normal, state)
        return state
    _add_embeddings(architecture, start, dense, norm, normal, state)
    match architecture:
        case "distilbert":
            _add_distilbert_layers(start, dense, norm)
        case "albert":
            _add_albert_layer(f"{start}encoder.albert_layer_groups.0.albert_layers.0", dense, norm)
        case _:
            parts = ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
            if architecture == "mpnet":
                parts = ("attn.q", "attn.k", "attn.v", "attn.o", "LayerNorm")
            if architecture == "deberta-v2":
                parts = (*(f"{part}_proj" for part in parts[:3]), *parts[3:])
            _add_layers(f"{start}encoder.layer", parts, dense, norm)
    if pooler:
        dense(f"{start}pooler" if architecture == "albert" else f"{start}pooler.dense", SIZE, SIZE)
    _add_head(prefix, head, dense, norm, normal, state)
    return state


def _add_embeddings(architecture: str, start: str, dense: Any, norm: Any, normal: Any, state: State) -> None:
    size = 4 if architecture in SMALL_EMBEDDINGS else SIZE
    state[f"{start}embeddings.word_embeddings.weight"] = normal(ROWS, size)
    if architecture != "deberta-v2":
        state[f"{start}embeddings.position_embeddings.weight"] = normal(40, size)
    if architecture not in ("distilbert", "mpnet", "deberta-v2"):
        state[f"{start}embeddings.token_type_embeddings.weight"] = normal(2, size)
    norm(f"{start}embeddings.LayerNorm", size)
    match architecture:
        case "electra":
            dense(f"{start}embeddings_project", size, SIZE)
        case "albert":
            dense(f"{start}encoder.embedding_hidden_mapping_in", size, SIZE)
        case "mpnet":
            state[f"{start}encoder.relative_attention_bias.weight"] = normal(32, 2)
        case "deberta-v2":
            state[f"{start}encoder.rel_embeddings.weight"] = normal(8, SIZE)
            norm(f"{start}encoder.LayerNorm")


def _add_layers(start: str, parts: Sequence[str], dense: Any, norm: Any) -> None:
    for layer in (f"{start}.{i}" for i in range(LAYERS)):
        for part in parts[:4]:
            dense(f"{layer}.attention.{part}", SIZE, SIZE)
        norm(f"{layer}.attention.{parts[4]}")
        dense(f"{layer}.intermediate.dense", SIZE, INNER)
        dense(f"{layer}.output.dense", INNER, SIZE)
        norm(f"{layer}.output.LayerNorm")


def _add_distilbert_layers(start: str, dense: Any, norm: Any) -> None:
    for layer in (f"{start}transformer.layer.{i}" for i in range(LAYERS)):
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            dense(f"{layer}.attention.{part}", SIZE, SIZE)
        dense(f"{layer}.ffn.lin1", SIZE, INNER)
        dense(f"{layer}.ffn.lin2", INNER, SIZE)
        norm(f"{layer}.sa_layer_norm")
        norm(f"{layer}.output_layer_norm")


def _add_albert_layer(layer: str, dense: Any, norm: Any) -> None:
    for part in ("query", "key", "value", "dense"):
        dense(f"{layer}.attention.{part}", SIZE, SIZE)
    norm(f"{layer}.attention.LayerNorm")
    dense(f"{layer}.ffn", SIZE, INNER)
    dense(f"{layer}.ffn_output", INNER, SIZE)
    norm(f"{layer}.full_layer_layer_norm")


def _add_modernbert(start: str, head: str, normal: Any, state: State) -> None:
    shapes = {"embeddings.tok_embeddings": (ROWS, SIZE)}
    for layer in (f"layers.{i}" for i in range(LAYERS)):
        shapes |= {f"{layer}.attn.Wqkv": (3 * SIZE, SIZE), f"{layer}.attn.Wo": (SIZE, SIZE)}
        shapes |= {f"{layer}.mlp.Wi": (2 * INNER, SIZE), f"{layer}.mlp.Wo": (SIZE, INNER)}
    state |= {f"{start}{name}.weight": normal(*shape) for name, shape in shapes.items()}
    norms = ["embeddings.norm", "layers.1.attn_norm", *(f"layers.{i}.mlp_norm" for i in range(LAYERS)), "final_norm"]
    state |= {f"{start}{name}.weight": np.ones(SIZE, np.float32) for name in norms}
    if head == "none":
        return
    state |= {"head.dense.weight": normal(SIZE, SIZE), "head.norm.weight": np.ones(SIZE, np.float32)}
    if head in ("masked", "pretraining"):
        state["decoder.weight"] = normal(ROWS, SIZE)
        state["decoder.bias"] = normal(ROWS)
    else:
        outputs = {"sequence": 3, "token": 9, "question": 2}[head]
        state |= {"classifier.weight": normal(outputs, SIZE), "classifier.bias": normal(outputs)}


def _add_head(prefix: str, head: str, dense: Any, norm: Any, normal: Any, state: State) -> None:
    match head, prefix:
        case "sequence", "roberta" | "electra" | "mpnet":
            dense("classifier.dense", SIZE, SIZE)
            dense("classifier.out_proj", SIZE, 3)
        case "sequence", _:
            dense("classifier", SIZE, 3)
            if prefix == "distilbert":
                dense("pre_classifier", SIZE, SIZE)
            if prefix == "deberta":
                dense("pooler.dense", SIZE, SIZE)
        case "token", _:
            dense("classifier", SIZE, 9)
        case "question", _:
            dense("qa_outputs", SIZE, 2)
        case "masked" | "pretraining", "bert":
            dense("cls.predictions.transform.dense", SIZE, SIZE)
            norm("cls.predictions.transform.LayerNorm")
            dense("cls.predictions.decoder", SIZE, ROWS)
            state["cls.predictions.bias"] = state["cls.predictions.decoder.bias"]
            if head == "pretraining":
                dense("cls.seq_relationship", SIZE, 2)
        case "masked" | "pretraining", "albert":
            dense("predictions.dense", SIZE, 4)
            norm("predictions.LayerNorm", 4)
            dense("predictions.decoder", 4, ROWS)
            state["predictions.bias"] = state["predictions.decoder.bias"]
            if head == "pretraining":
                dense("sop_classifier.classifier", SIZE, 2)
        case "masked" | "pretraining", "roberta" | "mpnet":
            dense("lm_head.dense", SIZE, SIZE)
            norm("lm_head.layer_norm")
            dense("lm_head.decoder", SIZE, ROWS)
            state["lm_head.bias"] = state["lm_head.decoder.bias"]
        case "masked" | "pretraining", "deberta":
            dense("lm_predictions.lm_head.dense", SIZE, SIZE)
            norm("lm_predictions.lm_head.LayerNorm")
            state["lm_predictions.lm_head.bias"] = normal(ROWS)
            if head == "pretraining":
                dense("mask_predictions.dense", SIZE, SIZE)
                norm("mask_predictions.LayerNorm")
                dense("mask_predictions.classifier", SIZE, 1)
        case "masked" | "pretraining", "distilbert":
            dense("vocab_transform", SIZE, SIZE)
            norm("vocab_layer_norm")
            dense("vocab_projector", SIZE, ROWS)
        case "masked", "electra":
            dense("generator_predictions.dense", SIZE, 4)
            norm("generator_predictions.LayerNorm", 4)
            dense("generator_lm_head", 4, ROWS)
        case "pretraining", "electra":
            dense("discriminator_predictions.dense", SIZE, SIZE)
            dense("discriminator_predictions.dense_prediction", SIZE, 1)


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = (*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS)


def write_tokenizer(folder: Path, kind: str) -> None:
    """The files of a tokenizer of one of the kinds `TOKENIZERS`."""
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    if kind != "no cls":
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    if kind == "vocab.txt":  # as the first BERT was published
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
        return
    if kind == "slow":  # one that is written in Python alone
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
        types = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"}
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer", **types})
        return
    fast_tokenizer(kind).save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names})


def fast_tokenizer(kind: str) -> Tokenizer:
    """A tokenizer of the library `tokenizers`, with `[CLS]` and `[SEP]` around a text unless the kind is "no cls"."""
    numbers = {piece: number for number, piece in enumerate(PIECES)}
    if kind == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate((*SPECIAL, *alphabet))}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    elif kind == "unigram":
        pieces = (*SPECIAL, "\u2581", *LETTERS, *(f"\u2581{word}" for word in WORDS))
        tokenizer = Tokenizer(models.Unigram([(piece, -float(n)) for n, piece in enumerate(pieces)], 1, False))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    else:
        tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if kind != "no cls":
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_checkpoint(
    folder: Path,
    architecture: str = "bert",
    head: str = "none",
    pooler: bool = False,
    tokenizer: str | None = "wordpiece",
    **config: Any,
) -> Path:
    """A folder with configuration, weights and tokenizer; `config` are further entries of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_of(architecture, **config))
    save_file(weights_of(architecture, head, pooler), folder / "model.safetensors")
    if tokenizer is not None:
        write_tokenizer(folder, tokenizer)
    return folder
