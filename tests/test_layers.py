"""Imports point one way: jobs use the trainer, models and data; those use nothing above them; leaf modules nothing."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxft

PACKAGE = Path(jaxft.__file__).parent
TRAINER = {"train", "checkpoint", "report", "summary", "plots", "stage"}
OPTIMISATION = {"schedules", "named_schedules", "groups", "transforms", "adam", "accumulation", "averaging", "monitors"}
OPTIMISATION |= {"phases", "unfreezing", "commit", "adversarial"}
LEAVES = {"errors"}
TOKENS = {"data.vocabulary", "data.text", "data.words"}
"""what tokens are, which readers of other people's models need as much as readers of texts"""
NOTHING_OF_OURS = {"schedules", "groups", "averaging", "monitors", "errors"}


def imported(path: Path) -> set[str]:
    """Everything that a file imports anywhere, also inside functions, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from jaxft.data import text` names a module, `from jaxft.errors import InputError` a thing in one.
            dotted = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {whole if is_module(whole) else str(node.module) for whole in dotted.values()}
    return found


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, as dotted names below `jaxft`."""
    ours = {name for name in imported(path) if name.partition(".")[0] == "jaxft"}
    return {name.removeprefix("jaxft").lstrip(".") or "__init__" for name in ours}


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


MODULES = {
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): imports(path) for path in PACKAGE.rglob("*.py")
}


def layer(module: str) -> str:
    if module in TOKENS:
        return "tokens"
    top = module.partition(".")[0]
    layers = {
        "trainer": TRAINER,
        "optimisation": OPTIMISATION,
        "models": {"models"},
        "data": {"data"},
        "leaf": LEAVES,
        "public": {"__init__"},
    }
    return next((name for name, modules in layers.items() if top in modules), "job")


MAY_IMPORT = {
    "job": {"job", "trainer", "models", "data", "tokens", "optimisation", "leaf"},
    "trainer": {"trainer", "optimisation", "leaf"},
    "models": {"models", "tokens", "leaf"},
    "data": {"data", "tokens", "leaf"},
    "tokens": {"tokens", "leaf"},
    "optimisation": {"optimisation", "leaf"},
    "public": {"optimisation", "trainer", "job"},  # a job inside a function: see what importing the package loads
    "leaf": set(),
}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    wrong = {other for other in MODULES[module] if layer(other) not in MAY_IMPORT[layer(module)]}
    assert not wrong, f"{module} ({layer(module)}) imports {sorted(wrong)}"


@pytest.mark.parametrize("module", sorted(NOTHING_OF_OURS & MODULES.keys()))
def test_the_lowest_modules_import_nothing_of_ours(module):
    assert MODULES[module] == set()


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


def test_the_optimisation_half_loads_no_model_tokenizer_or_plotting_code():
    code = "import sys, jaxft; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name.removeprefix("jaxft.") for name in loaded if name.startswith("jaxft.")}
    assert {layer(name) for name in ours - {"train"}} <= {"optimisation", "leaf"}, ours
    heavy = {"flax", "matplotlib", "orbax", "regex", "safetensors", "sklearn", "tokenizers", "torch", "tqdm"}
    heavy |= {"transformers", "tyro"}
    assert not heavy & set(loaded)


def test_what_is_imported_is_declared():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", requirement)[0].lower() for requirement in project["dependencies"]}
    names = {name.partition(".")[0] for path in PACKAGE.rglob("*.py") for name in imported(path)}
    distributions = importlib.metadata.packages_distributions()
    third_party = names - sys.stdlib_module_names - {"jaxft"}
    assert {distributions.get(name, [name])[0].lower() for name in third_party} == declared
