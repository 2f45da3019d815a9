"""What each package may import: a test for each rule, over every import of the package, also those in functions."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Container
from itertools import chain
from pathlib import Path

import pytest

import jaxft

PACKAGE = Path(jaxft.__file__).parent
TRAINING_JOBS = ("ulmfit", "finetune", "ner", "pretrain")
JOBS = (*TRAINING_JOBS, "predict", "export", "push")
FOR_ALL = {"errors", "base"}
"""what every room may import, where nothing else is said"""
FOR_OPTIM = {"base.sharding", "base.limits"}
VOCABULARY = {"data.vocabulary", "data.text", "data.words"}
"""tokens and their ids, which come with other libraries' weights"""
MAY_IMPORT = {
    "optim": {"optim"},
    "models": {"models"},
    "data": {"data"},
    "training": {"training", "optim"},
    "inference": {"inference", "models", "data"},
    "language_model": {"language_model", "training", "inference", "models", "data", "optim"},
    "jobs": {"language_model", "training", "inference", "models", "data", "optim"},
}
"""rooms that a room may import, besides `FOR_ALL`; what is not listed is a wall"""


def imported(path: Path) -> set[str]:
    """Everything that a file imports, as dotted names; relative imports are resolved."""
    names: set[str] = set()
    package = list(path.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from jaxft.data import text` names a module, `from jaxft.errors import InputError` a thing in one.
            dotted = {alias.name: f"{module}.{alias.name}" for alias in node.names}
            names |= {whole if is_module(whole) else module for whole in dotted.values()}
    return names


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, as dotted names below `jaxft`."""
    ours = {name for name in imported(path) if name.partition(".")[0] == "jaxft"}
    return {name.removeprefix("jaxft").lstrip(".") for name in ours} - {""}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): imports(path) for path in PACKAGE.rglob("*.py")}


def room(module: str) -> str:
    return module.partition(".")[0]


def modules_of(name: str) -> dict[str, set[str]]:
    rooms = JOBS if name == "jobs" else (name,)
    return {module: imported_modules for module, imported_modules in MODULES.items() if room(module) in rooms}


def violations(name: str, forbidden: Container[str]) -> list[str]:
    """Imports from a room into one of the forbidden ones."""
    return sorted(
        f"{module} imports {other}"
        for module, imported_modules in modules_of(name).items()
        for other in imported_modules
        if room(other) in forbidden
    )


def test_every_module_has_a_room():
    top = {"__init__", "__main__", "errors", "predict", "export", "push"}
    rooms = {"base", *(MAY_IMPORT.keys() - {"jobs"}), *TRAINING_JOBS}
    assert {room(module) for module in MODULES if "." in module} <= rooms
    assert {module for module in MODULES if "." not in module} - rooms - {"jaxft"} <= top


def test_optim_imports_nothing_of_ours_but_the_shards_of_a_batch_and_the_limits_of_numbers():
    imported_modules = {other for others in modules_of("optim").values() for other in others if room(other) != "optim"}
    assert imported_modules == FOR_OPTIM


def test_what_optim_imports_knows_nothing_of_ours_but_errors():
    assert set().union(*(MODULES[name] for name in FOR_OPTIM)) == {"errors"}


def test_models_know_no_optimizer_no_training_and_no_job():
    assert violations("models", {"optim", "training", "inference", "language_model", *JOBS}) == []


def test_models_know_no_data_set_but_the_vocabulary_of_others_weights():
    imported_modules = {other for others in modules_of("models").values() for other in others if room(other) == "data"}
    assert imported_modules <= VOCABULARY


def test_data_knows_no_model():
    assert violations("data", {"models"}) == []


def test_data_knows_no_optimizer_no_training_and_no_job():
    assert violations("data", {"optim", "training", "inference", "language_model", *JOBS}) == []


def test_training_knows_no_model():
    assert violations("training", {"models", "inference"}) == []


def test_training_knows_no_data_set():
    assert violations("training", {"data"}) == []


def test_training_knows_no_job():
    assert violations("training", {"language_model", *JOBS}) == []


def test_inference_knows_no_optimizer():
    assert violations("inference", {"optim"}) == []


def test_inference_knows_no_training_and_no_job():
    assert violations("inference", {"training", "language_model", *JOBS}) == []


def test_the_language_model_stage_knows_no_job():
    assert violations("language_model", set(JOBS)) == []


def test_only_ulmfit_and_pretrain_use_the_language_model_stage():
    users = {
        room(module)
        for module, imported_modules in MODULES.items()
        if any(room(o) == "language_model" for o in imported_modules)
    }
    assert users <= {"language_model", "ulmfit", "pretrain"}


@pytest.mark.parametrize("job", JOBS)
def test_jobs_never_import_each_other(job):
    assert violations(job, set(JOBS) - {job}) == []


@pytest.mark.parametrize("job", JOBS)
def test_nothing_imports_a_job_but_its_own_package(job):
    users = {
        room(module)
        for module, imported_modules in MODULES.items()
        if any(room(other) == job for other in imported_modules)
    }
    assert users <= {job}


@pytest.mark.parametrize("job", TRAINING_JOBS)
def test_nothing_imports_a_jobs_command_line(job):
    assert not [module for module, imported_modules in MODULES.items() if f"{job}.__main__" in imported_modules]


@pytest.mark.parametrize("name", sorted(FOR_ALL))
def test_what_is_for_all_imports_no_other_room(name):
    assert violations(name, {room(module) for module in MODULES} - FOR_ALL) == []


@pytest.mark.parametrize("module", sorted(module for module in MODULES if "." in module))
def test_a_module_imports_only_rooms_that_its_room_may(module):
    name = "jobs" if room(module) in JOBS else room(module)
    allowed = {*MAY_IMPORT.get(name, ()), room(module), *FOR_ALL}
    wrong = {other for other in MODULES[module] if room(other) not in allowed}
    assert not wrong - (VOCABULARY if name == "models" else set())


def test_no_module_but_the_command_imports_the_top_level_package():
    importers = {module_name(path) for path in PACKAGE.rglob("*.py") if "jaxft" in imported(path)}
    assert importers <= {"__main__"}


STUBS = {module_name(path): imports(path) for path in PACKAGE.rglob("*.pyi")}
"""the imports of packages whose names are loaded lazily"""


def test_the_top_level_exports_optim_the_train_step_and_load():
    others = {other for other in STUBS["jaxft" if "jaxft" in STUBS else "__init__"] if room(other) != "optim"}
    assert others == {"training.train_step", "inference.load"}


@pytest.mark.parametrize("job", sorted(STUBS.keys() & set(TRAINING_JOBS)))
def test_a_job_exports_only_its_own_modules(job):
    assert {room(other) for other in STUBS[job]} <= {job, "language_model", "inference"}


def optax_names(name: str) -> set[str]:
    files = [path for path in PACKAGE.rglob("*.py") if room(module_name(path)) == name]
    return {used for path in files for used in re.findall(r"\boptax\.(\w+)", path.read_text(encoding="utf-8"))}


def test_models_use_losses_of_optax_and_no_optimizer():
    assert optax_names("models") == {"softmax_cross_entropy_with_integer_labels"}


@pytest.mark.parametrize("name", ["inference", "data"])
def test_inference_and_data_use_no_optax(name):
    assert not optax_names(name)


@pytest.mark.parametrize("name", ["training", "optim", "data"])
def test_what_knows_no_model_imports_no_flax(name):
    files = (path for path in PACKAGE.rglob("*.py") if room(module_name(path)) == name)
    users = {
        module_name(path) for path in files if any(module.partition(".")[0] == "flax" for module in imported(path))
    }
    assert users <= {"optim.flax_serialization"}  # which registers states with Flax where one is made


def test_no_import_goes_in_a_circle():
    order: list[str] = []

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in order:
            for other in sorted(MODULES.get(module, ())):
                visit(other, (*above, module))
            order.append(module)

    for module in MODULES:
        visit(module, ())


def loaded_by(code: str) -> set[str]:
    run = subprocess.run([sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return set(run.stdout.decode().split())


def test_the_optimisation_half_loads_no_model_tokenizer_or_plotting_code():
    names = [name for name in jaxft.__all__ if name != "load"]
    loaded = loaded_by("import jaxft\n" + "\n".join(f"jaxft.{name}" for name in names))
    ours = {name.removeprefix("jaxft.") for name in loaded if name.startswith("jaxft.")}
    assert {room(name) for name in ours} <= {"optim", "training", "base", "errors"}
    assert {name for name in ours if room(name) == "base"} <= {"base", *FOR_OPTIM}
    assert {name for name in ours if room(name) == "training"} <= {"training", "training.train_step"}
    heavy = {"flax", "matplotlib", "orbax", "regex", "safetensors", "sklearn", "tokenizers", "torch", "tqdm"}
    assert not (heavy | {"transformers", "tyro"}) & loaded


@pytest.mark.parametrize("job", TRAINING_JOBS)
def test_a_command_line_is_read_without_jax_and_numpy(job):
    loaded = loaded_by(f"import jaxft.{job}.__main__")
    assert not {"jax", "flax", "numpy", "optax", "transformers", "matplotlib", "requests"} & loaded


@pytest.mark.parametrize("job", ["predict", "export", "push"])
def test_help_of_a_small_job_needs_no_jax(job):
    assert not {"jax", "flax", "numpy", "transformers"} & loaded_by(f"import jaxft.{job}")


OPTIONAL = ("arrow", "tensorboard", "wandb", "trackio", "mlflow")
"""extras for which there is code of ours"""


def test_what_is_imported_is_declared():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = [requirements for name, requirements in project["optional-dependencies"].items() if name in OPTIONAL]
    requirements = [*project["dependencies"], *chain.from_iterable(extras)]
    declared = {re.split(r"[^\w-]", requirement)[0].lower() for requirement in requirements}
    names = {name.partition(".")[0] for path in PACKAGE.rglob("*.py") for name in imported(path)}
    distributions = importlib.metadata.packages_distributions()
    third_party = names - sys.stdlib_module_names - {"jaxft"}
    imported_modules = {distributions.get(name, [name])[0].lower() for name in third_party}
    assert {name.replace("-", "_") for name in imported_modules} == {name.replace("-", "_") for name in declared}
