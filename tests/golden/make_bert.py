"""Makes `bert/`: tiny checkpoints of six architectures as transformers saves them, and what it answers.

Run with torch and transformers installed: python tests/golden/make_bert.py
"""

import json
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from transformers import (  # pyright: ignore[reportMissingImports]
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
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
WIDTHS = {"mpnet": 132}
"""beyond the distances that have attention biases of their own"""

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
}


def main() -> None:
    """Writes the checkpoints and their answers."""
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
        if name in ("bert", "electra", "albert"):
            inputs["token_type_ids"] = types
        with torch.no_grad():
            outputs = model(**inputs, output_hidden_states=True)
            has_pooler = name in ("bert", "albert")
            pooled = model.base_model(**inputs).pooler_output if has_pooler else outputs.hidden_states[-1][:, 0]
        expected = {
            **{key: value.tolist() for key, value in inputs.items()},
            "hidden_states": [state.double().numpy().round(7).tolist() for state in outputs.hidden_states],
            "pooled": pooled.tolist(),
            "logits": outputs.logits.tolist(),
        }
        (FOLDER / name / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
