"""What the processes of `tests.faults.process` have imported when they begin; no backend of jax has started."""

# ruff: noqa: F401

import warnings

import matplotlib.backends.backend_agg
import matplotlib.figure
import matplotlib.font_manager
import scipy.stats
import sklearn.feature_extraction.text
import transformers.models.auto.tokenization_auto

import jaxft.export
import jaxft.finetune.__main__
import jaxft.finetune.job
import jaxft.ner.__main__
import jaxft.ner.job
import jaxft.predict
import jaxft.pretrain.__main__
import jaxft.pretrain.job
import jaxft.ulmfit.__main__
import jaxft.ulmfit.job

warnings.filterwarnings("ignore", "os.fork")  # jax has no threads before its backend starts
