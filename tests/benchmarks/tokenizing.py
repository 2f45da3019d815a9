"""Reviews made into ids per second and core, vocabulary included: ours against fastai, in turn on one machine.

Each round starts a fresh Python for either side and counts its processor time over the same reviews without imports:

    python tests/benchmarks/tokenizing.py --data aclImdb_v1.tar.gz --peer PYTHON_WITH_FASTAI [--reviews N] [--rounds N]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from statistics import median

OURS = """
import numpy as np
from jaxft.data.numbering import number_texts
from jaxft.data.vocabulary import Vocabulary

def run(texts):
    tokens = []
    ids = np.concatenate([ids for _, ids in number_texts(texts, tokens, workers=1)])
    vocabulary = Vocabulary.build(dict(zip(tokens, np.bincount(ids).tolist(), strict=True)))
    return len(vocabulary.encode(tokens)[ids])
"""
PEER = """
import warnings
warnings.simplefilter("ignore")
from collections import Counter
from fastai.text.core import TokenizeWithRules, WordTokenizer
from fastai.text.data import Numericalize, make_vocab

def run(texts):
    texts = list(TokenizeWithRules(WordTokenizer())(texts))
    number = Numericalize(make_vocab(Counter(token for text in texts for token in text)))
    return sum(len(number(text)) for text in texts)
"""
TIMED = """
import json, sys, time
texts = json.load(open(sys.argv[1]))
start = time.process_time()
tokens = run(texts)
print(json.dumps([time.process_time() - start, tokens]))
"""


def timed(python: str, code: str, texts: Path) -> tuple[float, int]:
    """Processor seconds and the number of tokens."""
    answer = subprocess.run(
        [python, "-c", code + TIMED, str(texts)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    seconds, tokens = json.loads(answer.splitlines()[-1])
    return seconds, tokens


def main() -> None:
    """Runs both sides in turn and prints the medians."""
    from jaxft.data.corpus import open_corpus

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="imdb, or a file or folder that jaxft.ulmfit --data takes")
    parser.add_argument("--peer", required=True, help="a Python with fastai and spaCy")
    parser.add_argument("--reviews", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    texts = [document.text for document in islice(open_corpus(args.data).documents(), args.reviews)]
    rates: dict[str, list[float]] = {"jaxft": [], "fastai": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts))
        for _ in range(args.rounds):
            for name, python, code in ("jaxft", sys.executable, OURS), ("fastai", args.peer, PEER):
                seconds, tokens = timed(python, code, path)
                rates[name].append(len(texts) / seconds)
                print(f"{name:6s} {len(texts) / seconds:7.0f} reviews/s/core  {tokens} tokens", flush=True)
    ours, peer = median(rates["jaxft"]), median(rates["fastai"])
    print(f"median {ours:.0f} against {peer:.0f} reviews/s/core: {ours / peer:.1f} times")


if __name__ == "__main__":
    main()
