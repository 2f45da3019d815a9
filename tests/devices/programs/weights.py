"""Prints the weights of the small stage after its training on one device; its argument is the rows of a batch."""

import json
import sys

import numpy as np

from tests.devices.programs.stage import train

if __name__ == "__main__":
    result = train(1, int(sys.argv[1]))
    print(json.dumps({name: np.asarray(x).tolist() for name, x in result.params.items()}))
