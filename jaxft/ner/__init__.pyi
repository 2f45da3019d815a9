from .inputs import read_inputs as read_inputs
from .job import fit as fit
from .job import plans as plans
from .job import train as train
from .settings import parse as parse
from .stages import as_model as as_model
from .stages import ner_plan as ner_plan
from .stages import train_tagger as train_tagger
