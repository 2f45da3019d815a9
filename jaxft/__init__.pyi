from .inference.load import load as load
from .optim.accumulation import accumulate_gradients as accumulate_gradients
from .optim.adam import (
    adam_warmup as adam_warmup,
)
from .optim.adam import (
    bert_adamw as bert_adamw,
)
from .optim.adam import (
    scale_by_uncorrected_adam as scale_by_uncorrected_adam,
)
from .optim.averaging import Average as Average
from .optim.averaging import ema as ema
from .optim.averaging import nt_asgd as nt_asgd
from .optim.averaging import swa as swa
from .optim.discriminative import (
    DiscriminativeState as DiscriminativeState,
)
from .optim.discriminative import (
    applied_metrics as applied_metrics,
)
from .optim.discriminative import (
    discriminative as discriminative,
)
from .optim.discriminative import (
    rescale as rescale,
)
from .optim.groups import (
    decay_mask as decay_mask,
)
from .optim.groups import (
    describe as describe,
)
from .optim.groups import (
    discriminative_rates as discriminative_rates,
)
from .optim.groups import (
    label_params as label_params,
)
from .optim.groups import (
    layerwise_decay_rates as layerwise_decay_rates,
)
from .optim.monitors import (
    EarlyStoppingState as EarlyStoppingState,
)
from .optim.monitors import (
    Monitor as Monitor,
)
from .optim.monitors import (
    PlateauState as PlateauState,
)
from .optim.monitors import (
    early_stopping as early_stopping,
)
from .optim.monitors import (
    plateau as plateau,
)
from .optim.named_schedules import SCHEDULE_NAMES as SCHEDULE_NAMES
from .optim.named_schedules import schedule_by_name as schedule_by_name
from .optim.phases import (
    Phase as Phase,
)
from .optim.phases import (
    format_plan as format_plan,
)
from .optim.phases import (
    learning_rates as learning_rates,
)
from .optim.phases import (
    migrate as migrate,
)
from .optim.phases import (
    phase_at as phase_at,
)
from .optim.phases import (
    phase_schedule as phase_schedule,
)
from .optim.schedules import (
    bert_warmup_schedule as bert_warmup_schedule,
)
from .optim.schedules import (
    keras_bert_warmup_schedule as keras_bert_warmup_schedule,
)
from .optim.schedules import (
    slanted_triangular_schedule as slanted_triangular_schedule,
)
from .optim.schedules import (
    swa_schedule as swa_schedule,
)
from .optim.schedules import (
    train_steps as train_steps,
)
from .optim.schedules import (
    warmup_linear_decay_schedule as warmup_linear_decay_schedule,
)
from .optim.unfreezing import (
    chain_thaw as chain_thaw,
)
from .optim.unfreezing import (
    fastai_unfreezing as fastai_unfreezing,
)
from .optim.unfreezing import (
    full as full,
)
from .optim.unfreezing import (
    gradual_unfreezing as gradual_unfreezing,
)
from .optim.unfreezing import (
    last_layer as last_layer,
)
from .training.train_step import TrainState as TrainState
from .training.train_step import make_train_step as make_train_step

__all__: list[str]
__version__: str
