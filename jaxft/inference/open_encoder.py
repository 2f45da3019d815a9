"""Opens a checkpoint with its tokenizer, and checks once for every job that both belong together."""

from pathlib import Path
from typing import Any

from jaxft.data.pieces import check_vocabulary, load_tokenizer
from jaxft.models.checkpoint_files import read_config
from jaxft.models.encoder_config import encoder_config
from jaxft.models.encoder_kinds import model_type_of
from jaxft.models.encoders import Encoder, open_checkpoint


def open_encoder(folder: Path, num_labels: int | None = None, **options: Any) -> tuple[Encoder, Any]:
    """The encoder and the tokenizer of a checkpoint.

    Args:
        folder: of the checkpoint.
        num_labels, options: as in `jaxft.models.encoders.open_checkpoint`.

    Raises:
        InputError: the model is no encoder of ours, a file is missing or damaged, or the tokenizer has pieces that the
            word embeddings have no row for. The configuration is checked before any file of the tokenizer is read.
    """
    settings = read_config(folder)
    encoder_config(settings, str(folder))
    named = settings.get("model_type") is not None
    tokenizer = load_tokenizer(folder, None if named else model_type_of(settings, str(folder)))
    encoder = open_checkpoint(folder, num_labels, **options)
    check_vocabulary(tokenizer, encoder.config.vocab_size, str(folder))
    return encoder, tokenizer
