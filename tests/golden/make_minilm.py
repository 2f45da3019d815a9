"""Writes minilm.json: what transformers makes of two texts with the MiniLM checkpoint, for tests/test_bert.py.

Run with torch and transformers installed: python tests/golden/make_minilm.py FOLDER_OF_THE_CHECKPOINT
"""

import json
import sys
from pathlib import Path

import torch  # pyright: ignore[reportMissingImports]
from transformers import AutoModel, AutoTokenizer  # pyright: ignore[reportMissingImports]

TEXTS = ["A lovely, warm film with a weak ending.", "No."]

tokens = AutoTokenizer.from_pretrained(sys.argv[1])(TEXTS, padding=True, return_tensors="pt")
with torch.no_grad():
    outputs = AutoModel.from_pretrained(sys.argv[1]).eval()(**tokens)
mask = tokens["attention_mask"][:, :, None]
golden = {
    **{name: value.tolist() for name, value in tokens.items()},
    "pooled": outputs.pooler_output.tolist(),
    "mean": ((outputs.last_hidden_state * mask).sum(1) / mask.sum(1)).tolist(),
}
Path(__file__).with_name("minilm.json").write_text(json.dumps(golden) + "\n")
