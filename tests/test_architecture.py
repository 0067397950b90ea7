"""The shape of the project: who imports whom, what a file and a function may be, what may be said in a log."""

import ast
import logging.config
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
PACKAGES = ("sarco_models", "client", "server", "simulation")

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
LONG_FILES: dict[str, str] = {}

VAGUE = {"utils", "util", "helpers", "common", "base", "manager", "handler", "processor", "misc", "core"}

KNOWS_FLOWER = {
    "sarco_models": {"wire.py", "packed.py"},
    "client": {"app.py", "flower_app.py", "inside.py", "superexec.py", "supernode.py"},
    "server": {
        "app.py",
        "bundle.py",
        "control.py",
        "errands.py",
        "federation.py",
        "fetching.py",
        "object_files.py",
        "rounds.py",
        "strategies.py",
        "superlink.py",
    },
}
KNOWS_FLOWERS_PRIVATE_NAMES = {
    "server/bundle.py",
    "server/control.py",
    "server/fetching.py",
    "server/object_files.py",
    "server/superlink.py",
    "simulation/grid.py",
    "simulation/flower.py",
    "client/superexec.py",
    "client/supernode.py",
}

NEVER_LOGGED = {"participant_id", "ids", "id_", "row", "rows", "pixels", "table", "labels", "image", "mask", "vector"}

IMPORT_NAMES = {
    "pil": "pillow",
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
}
PIN_OR_COMMENT = r"(#.*|[\w.-]+==[\w.!]+)?"
NOT_IMPORTED = {
    "click": "typer imports it, and says nothing of a command's arguments with the newest",
    "torchvision": "timm imports it; torch and torchvision must come from one build",
    "pylibjpeg": "pydicom finds its decoders by itself",
    "pylibjpeg-openjpeg": "pydicom finds its decoders by itself",
    "python-gdcm": "pydicom finds its decoders by itself",
}


@cache
def trees() -> dict[str, ast.Module]:
    """Path relative to the repository -> syntax tree, of every module in the four packages."""
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def nodes(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[tuple[str, ast.AST]]:
    return ((file, node) for file, tree in trees().items() for node in ast.walk(tree) if isinstance(node, kind))


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of every absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def identifiers(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)
    }


def none(faults: list[str]) -> None:
    """Fail with all faults, one on a line."""
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


# ---- who imports whom ------------------------------------------------------------------------------------------------


def test_simulation_imports_server_and_client_which_import_sarco_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    # import-linter configures logging, and that switches off every logger which tests after this one listen to.
    monkeypatch.setattr(logging.config, "dictConfig", lambda _: None)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml")) == 0, "run `lint-imports` for the chains"


def test_flower_lives_at_the_edge() -> None:
    none(
        [
            f"{file}:{line}: imports {name}; only {sorted(KNOWS_FLOWER[package])} of {package} know Flower"
            for file, tree in trees().items()
            for line, name in imported(tree)
            if (package := file.split("/")[0]) in KNOWS_FLOWER
            if name.split(".")[0] == "flwr" and file.removeprefix(f"{package}/") not in KNOWS_FLOWER[package]
        ]
    )


def test_flowers_private_names_stay_in_the_simulation_engines() -> None:
    public = ("flwr.app", "flwr.clientapp", "flwr.serverapp")
    none(
        [
            f"{file}:{line}: {name} is not a public name of Flower"
            for file, tree in trees().items()
            for line, name in imported(tree)
            if name.split(".")[0] == "flwr" and not name.startswith(public) and file not in KNOWS_FLOWERS_PRIVATE_NAMES
        ]
    )


# ---- files and functions ---------------------------------------------------------------------------------------------


def test_files_are_short_enough_to_read() -> None:
    lines = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in trees()}
    none(
        [f"{file}: {n} lines; at most {MAX_FILE_LINES}: split it by noun" for file, n in lines.items()
         if n > MAX_FILE_LINES and file not in LONG_FILES]
        + [f"{file}: is an exception that is not needed any more" for file in LONG_FILES
           if lines.get(file, 0) <= MAX_FILE_LINES]
    )  # fmt: skip


def test_functions_are_short_enough_to_read() -> None:
    none(
        [
            f"{file}:{node.lineno}: {node.name} has {length} lines; at most {MAX_FUNCTION_LINES}"
            for file, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
        ]
    )


def test_every_public_name_says_what_it_is() -> None:
    none(
        [
            f"{file}:{line}: {name} has no docstring"
            for file, tree in trees().items()
            if tree.body  # an empty __init__.py says nothing and needs nothing
            for line, name, documented in public_names(tree, Path(file).stem)
            if not documented
        ]
    )


def public_names(tree: ast.Module, module: str) -> Iterator[tuple[int, str, bool]]:
    """Line, name and whether it has a docstring: of the module, its public classes, functions and methods."""
    yield 1, module, ast.get_docstring(tree) is not None
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        yield node.lineno, node.name, ast.get_docstring(node) is not None
        for inner in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_"):
                overrides_torch = inner.name == "forward"
                yield inner.lineno, f"{node.name}.{inner.name}", overrides_torch or ast.get_docstring(inner) is not None


def test_module_names_are_nouns_of_the_field() -> None:
    none(
        [f"{file}: {stem} is a module of the standard library" for file in trees()
         if (stem := Path(file).stem) in sys.stdlib_module_names]
        + [f"{file}: {stem} says nothing: name the idea" for file in trees() if (stem := Path(file).stem) in VAGUE]
    )  # fmt: skip


# ---- what is said, and to whom ---------------------------------------------------------------------------------------


def test_only_commands_print() -> None:
    none(
        [
            f"{file}:{node.lineno}: print belongs into cli.py; a library logs or returns"
            for file, node in nodes(ast.Call)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "pprint")
            if Path(file).name != "cli.py"
        ]
    )


def test_no_log_line_names_a_person_a_row_or_an_image() -> None:
    none(
        [
            f"{file}:{call.lineno}: logs {sorted(said)}; count it, do not name it"
            for file, call in log_calls()
            if (said := identifiers_of_arguments(call) & NEVER_LOGGED)
        ]
    )


def test_log_lines_are_fixed_texts() -> None:
    none(
        [
            f"{file}:{call.lineno}: the text of a log line is a literal; values go into %s"
            for file, call in log_calls()
            if not call.args or not isinstance(call.args[0], ast.Constant)
        ]
    )


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    for file, node in nodes(ast.Call):
        called = node.func if isinstance(node, ast.Call) else None
        if not isinstance(called, ast.Attribute) or called.attr not in levels:
            continue
        if isinstance(called.value, ast.Name) and called.value.id in ("log", "logger", "logging"):
            yield file, node


def identifiers_of_arguments(call: ast.Call) -> set[str]:
    """Names whose values would be written; what stands inside ``len`` is only counted."""
    counted = {
        inner
        for argument in call.args
        for inner in ast.walk(argument)
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "len"
    }
    hidden = set().union(*(identifiers(node) for node in counted)) if counted else set()
    return set().union(*(identifiers(argument) for argument in call.args)) - hidden if call.args else set()


READS_IDENTITY = {
    "client/quality/headers.py": "says where a header names a person",
    "client/quality/identity.py": "judges whether a text may be shown",
}
"""Modules of the hospital's own desk that look at identifiers, so that nothing else has to."""


def test_where_data_are_read_a_person_is_a_participant_and_has_no_name() -> None:
    """DICOM's PatientName and its kin are never asked for, and our own word for a person is another."""
    none(
        [
            f"{file}:{getattr(node, 'lineno', 0)}: {word}; never read it, and say participant"
            for file, node in nodes((ast.Name, ast.Attribute, ast.arg, ast.FunctionDef, ast.ClassDef, ast.Constant))
            if file.startswith(("sarco_models/", "client/")) and file not in READS_IDENTITY
            if re.match(r"_?(Other|num_)?patient", word := str(word_of(node)), re.IGNORECASE)
        ]
    )


def word_of(node: ast.AST) -> object:
    return next((getattr(node, key) for key in ("id", "attr", "arg", "name", "value") if hasattr(node, key)), "")


# ---- what the project says of itself ---------------------------------------------------------------------------------


@cache
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0].lower().replace("_", "-") for r in requirements}


def declared() -> set[str]:
    return requirement_names(list(project()["dependencies"]))  # type: ignore[call-overload]


def test_imports_are_declared_and_declared_packages_are_used() -> None:
    names = {name.split(".")[0] for tree in trees().values() for _line, name in imported(tree)}
    theirs = {n.lower() for n in names - set(PACKAGES) - sys.stdlib_module_names}
    used = {IMPORT_NAMES.get(n, n).replace("_", "-") for n in theirs}
    none(
        [f"{name}: imported, and not among the dependencies in pyproject.toml" for name in sorted(used - declared())]
        + [
            f"{name}: declared, and neither imported nor explained"
            for name in sorted(declared() - used - {*NOT_IMPORTED})
        ]
        + [f"{name}: imported by now: no explanation is needed" for name in sorted(used & set(NOT_IMPORTED))]
    )


def test_every_dependency_is_pinned_and_explained() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins if line and not line.startswith("#")}
    extras = project()["optional-dependencies"]
    everything = declared().union(*(requirement_names(r) for r in extras.values()))  # type: ignore[attr-defined]
    readme = (ROOT / "README.md").read_text(encoding="utf-8").lower()
    none(
        [f"{line}: a pin is a name and a version" for line in pins if not re.fullmatch(PIN_OR_COMMENT, line)]
        + [f"{name}: not pinned in constraints.txt" for name in sorted(everything - pinned)]
        + [f"{name}: not in the README's table" for name in sorted(declared()) if f"`{name}`" not in readme]
    )


def test_no_decoder_asks_for_the_gpl() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    assert "pylibjpeg-libjpeg" not in pins, "GPL-3.0: gdcm decodes the same files (docs/decisions)"
    assert "albumentationsx" not in pins, "AGPL: stay with albumentations 2.0.8"


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{project()['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_documents_name_tests_and_files_that_exist() -> None:
    faults = []
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        where = page.relative_to(ROOT)
        for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
            if not (ROOT / file).is_file():
                faults.append(f"{where}: {file} does not exist")
            elif test and f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8"):
                faults.append(f"{where}: {file} has no {test}")
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
            if not (page.parent / link).exists():
                faults.append(f"{where}: the link to {link} leads nowhere")
    none(faults)
