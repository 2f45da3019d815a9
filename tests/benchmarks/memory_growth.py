"""Peak memory of the whole job as its corpus grows tenfold: a tenth of the rows of a file, then all of them.

    python tests/benchmarks/memory_growth.py --data reviews.csv [flags of python -m jaxft.ulmfit]

The tenth holds every tenth row of each split from its longest text down, so that both have the same longest text, on
which the shapes of a step depend. A vocabulary that both corpora fill (--text.max-vocab) makes models of one size.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def peak_mb(flags: Sequence[str], out: Path) -> float:
    """Runs the job and reads from its summary the peak of its process."""
    subprocess.run([sys.executable, "-m", "jaxft.ulmfit", *flags, "--out", str(out)], check=True, capture_output=True)
    return json.loads((out / "summary.json").read_text())["peak_memory_mb"]["process"]


def main() -> None:
    """Runs both and prints the growth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a CSV file with columns text, label and split")
    options, rest = parser.parse_known_args()
    csv.field_size_limit(1 << 30)
    with open(options.data, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names, rows = reader.fieldnames or [], list(reader)
    with tempfile.TemporaryDirectory() as folder:
        tenth = Path(folder) / "tenth.csv"
        with open(tenth, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for split in sorted({row["split"] for row in rows}):
                longest_first = sorted(
                    (row for row in rows if row["split"] == split), key=lambda row: -len(row["text"])
                )
                writer.writerows(longest_first[::10])
        sizes = []
        for path, name in ((str(tenth), "tenth"), (options.data, "whole")):
            sizes.append(peak_mb(["--data", path, *rest], Path(folder) / name))
            print(f"{name}: {sizes[-1]:,.0f} MB", flush=True)
    print(f"grows by {100 * (sizes[1] / sizes[0] - 1):.0f} %")


if __name__ == "__main__":
    main()
