from .job import fit as fit
from .job import plans as plans
from .job import read_texts as read_texts
from .job import train as train
from .settings import parse as parse
