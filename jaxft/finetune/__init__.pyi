from .inputs import read_inputs as read_inputs
from .inputs import split_examples as split_examples
from .job import plans as plans
from .job import train as train
from .plan import finetune_plan as finetune_plan
from .settings import parse as parse
from .stages import as_model as as_model
from .stages import train_encoder as train_encoder
