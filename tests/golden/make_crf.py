"""Writes crf.json: likelihoods, gradients and best sequences of pytorch-crf, for tests/test_crf.py.

Run with torch and pytorch-crf installed: python tests/golden/make_crf.py
"""

import json
from pathlib import Path

import torch  # pyright: ignore[reportMissingImports]
from torchcrf import CRF  # pyright: ignore[reportMissingImports]

TAGS, LENGTHS, WIDTH = 5, (9, 6, 1, 4), 9

torch.manual_seed(0)
crf = CRF(TAGS, batch_first=True)
for parameter in crf.parameters():
    torch.nn.init.normal_(parameter)
emissions = torch.randn(len(LENGTHS), WIDTH, TAGS, requires_grad=True)
tags = torch.randint(0, TAGS, (len(LENGTHS), WIDTH))
mask = torch.arange(WIDTH)[None, :] < torch.tensor(LENGTHS)[:, None]
likelihood = crf(emissions, tags, mask, reduction="none")
likelihood.sum().backward()
golden = {
    "transitions": crf.transitions.tolist(),
    "start": crf.start_transitions.tolist(),
    "end": crf.end_transitions.tolist(),
    "emissions": emissions.tolist(),
    "tags": tags.tolist(),
    "mask": mask.tolist(),
    "log_likelihood": likelihood.tolist(),
    "decoded": crf.decode(emissions, mask),
    "gradient_transitions": crf.transitions.grad.tolist(),
    "gradient_start": crf.start_transitions.grad.tolist(),
    "gradient_end": crf.end_transitions.grad.tolist(),
    "gradient_emissions": emissions.grad.tolist(),
}
Path(__file__).with_name("crf.json").write_text(json.dumps(golden) + "\n")
