"""Makes `bert/`: tiny checkpoints of eight architectures as transformers saves them, its answers and its gradients.

Run with torch and transformers installed: python tests/golden/make_bert.py
"""

# pyright: reportCallIssue=false

import json
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from transformers import (  # pyright: ignore[reportMissingImports]
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

FOLDER = Path(__file__).parent / "bert"
SIZES: Any = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
LENGTHS, LABELS = (11, 7, 3), 3
WIDTHS = {"mpnet": 132, "deberta": 27, "deberta-c2p": 27, "deberta-p2c": 27, "modernbert": 23}
"""beyond the distances that have attention biases or embeddings of their own, or beyond three windows"""
DEBERTA: Any = {**SIZES, "relative_attention": True, "max_position_embeddings": 30}
MODERNBERT: Any = {
    **SIZES,
    **{f"{piece}_token_id": number for piece, number in (("pad", 0), ("bos", 1), ("eos", 1), ("cls", 1), ("sep", 1))},
    "max_position_embeddings": 30,
}

MODELS = {
    "bert": (BertForSequenceClassification, BertConfig(**SIZES, max_position_embeddings=20)),
    "roberta": (
        RobertaForSequenceClassification,
        RobertaConfig(**SIZES, max_position_embeddings=20, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1),
    ),
    "electra": (
        ElectraForSequenceClassification,
        ElectraConfig(**SIZES, embedding_size=12, max_position_embeddings=20),
    ),
    "distilbert": (
        DistilBertForSequenceClassification,
        DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=4, hidden_dim=24, max_position_embeddings=20),
    ),
    "albert": (
        AlbertForSequenceClassification,
        AlbertConfig(
            **{**SIZES, "num_hidden_layers": 4}, embedding_size=12, num_hidden_groups=2, max_position_embeddings=20
        ),
    ),
    "mpnet": (
        MPNetForSequenceClassification,
        MPNetConfig(**SIZES, max_position_embeddings=140, layer_norm_eps=1e-5, pad_token_id=1),
    ),
    "deberta": (  # as version 3 is published
        DebertaV2ForSequenceClassification,
        DebertaV2Config(
            **DEBERTA,
            pos_att_type="p2c|c2p",
            share_att_key=True,
            position_buckets=8,
            max_relative_positions=16,
            norm_rel_ebd="layer_norm",
            position_biased_input=False,
        ),
    ),
    "deberta-own-keys": (
        DebertaV2ForSequenceClassification,
        DebertaV2Config(**DEBERTA, pos_att_type=["p2c", "c2p"], max_relative_positions=6, type_vocab_size=2),
    ),
    "deberta-c2p": (
        DebertaV2ForSequenceClassification,
        DebertaV2Config(**DEBERTA, pos_att_type="c2p", position_buckets=8, position_biased_input=False),
    ),
    "deberta-p2c": (
        DebertaV2ForSequenceClassification,
        DebertaV2Config(**DEBERTA, pos_att_type="p2c", share_att_key=True, norm_rel_ebd="layer_norm"),
    ),
    "modernbert": (
        ModernBertForSequenceClassification,
        ModernBertConfig(
            **{**MODERNBERT, "num_hidden_layers": 5}, local_attention=4, classifier_pooling="mean", norm_eps=1e-5
        ),
    ),
    "modernbert-biases": (
        ModernBertForSequenceClassification,
        ModernBertConfig(
            **{**MODERNBERT, "num_hidden_layers": 4},
            local_attention=8,
            global_attn_every_n_layers=2,
            classifier_pooling="cls",
            global_rope_theta=500.0,
            local_rope_theta=50.0,
            **dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True),
        ),
    ),
}
WITH_TOKEN_TYPES = ("bert", "electra", "albert", "deberta-own-keys")


def gradients(model: Any, logits: torch.Tensor) -> dict[str, list[float]]:
    """Two numbers for each parameter's gradient of the sum of the squared logits.

    They are its norm, and its product with cos(0), cos(1), ..., in the order of its elements.
    """
    model.zero_grad()
    logits.square().sum().backward()
    result = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.double().flatten()
            product = gradient @ torch.arange(len(gradient)).double().cos()
            result[name] = [float(f"{number:.7g}") for number in (gradient.norm().item(), product.item())]
    return result


def main() -> None:
    """Writes the checkpoints, their answers, and the gradients of all of them."""
    all_gradients = {}
    for number, (name, (kind, config)) in enumerate(MODELS.items()):
        torch.manual_seed(number)
        config.num_labels = LABELS
        model = kind(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(FOLDER / name)
        pad = config.pad_token_id
        lengths = torch.tensor(LENGTHS)
        width = WIDTHS.get(name, LENGTHS[0])
        lengths[0] = width
        ids = torch.randint(2, 40, (len(lengths), width))
        mask = torch.arange(width)[None, :] < lengths[:, None]
        ids = torch.where(mask, ids, pad)
        types = (torch.arange(width)[None, :] >= 2).long().expand_as(ids)
        inputs = {"input_ids": ids, "attention_mask": mask.long()}
        if name in WITH_TOKEN_TYPES:
            inputs["token_type_ids"] = types
        all_gradients[name] = gradients(model, model(**inputs).logits)
        with torch.no_grad():
            outputs = model(**inputs, output_hidden_states=True)
            match name.partition("-")[0]:
                case "bert" | "albert":
                    pooled = model.base_model(**inputs).pooler_output
                case "deberta":
                    pooled = model.pooler(outputs.hidden_states[-1])
                case "modernbert":
                    last = outputs.hidden_states[-1]
                    means = (last * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
                    pooled = model.head(means if config.classifier_pooling == "mean" else last[:, 0])
                case _:
                    pooled = outputs.hidden_states[-1][:, 0]
        expected = {
            **{key: value.tolist() for key, value in inputs.items()},
            "hidden_states": [state.double().numpy().round(7).tolist() for state in outputs.hidden_states],
            "pooled": pooled.tolist(),
            "logits": outputs.logits.tolist(),
        }
        (FOLDER / name / "expected.json").write_text(json.dumps(expected) + "\n")
    lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in all_gradients.items()]
    (FOLDER / "gradients.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
