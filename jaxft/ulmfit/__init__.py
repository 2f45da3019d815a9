"""ULMFiT, from raw texts to a classifier: `python -m jaxft.ulmfit`, and its stages as plain functions.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

import lazy_loader

# The names and their modules stand in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
