"""The rules of ARCHITECTURE.md that a machine can check."""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGES = {
    name: ROOT / name.removeprefix("dragoman_") / name
    for name in ("dragoman_protos", "dragoman_service", "dragoman_model", "dragoman_export")
}
MAX_FUNCTION_LINES = 60

# What each package may import: the base dependencies, and those of these extras.
EXTRAS = {
    "dragoman_protos": (),
    "dragoman_service": ("cpu", "http"),
    "dragoman_model": ("cpu", "train"),
    "dragoman_export": ("cpu", "export", "hf"),
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def modules(package: str) -> list[Path]:
    """The hand-written source files of a package."""
    found = [path for path in PACKAGES[package].rglob("*.py") if not path.stem.endswith(("_pb2", "_pb2_grpc"))]
    assert found
    return sorted(found)


def all_modules() -> list[Path]:
    return [path for package in PACKAGES for path in modules(package)]


def test_imports_go_in_one_direction() -> None:
    # In a process of its own: the linter sets up logging, and takes from the other tests what they look for in logs.
    lint = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_serving_runs_without_the_training_libraries() -> None:
    """In a process where those cannot be imported, every module of the serving install can."""
    script = textwrap.dedent("""
        import importlib, pkgutil, sys

        HEAVY = {"torch", "onnx", "safetensors", "sacrebleu", "babel", "tensorboard", "matplotlib"}

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in HEAVY:
                    raise ModuleNotFoundError(f"No module named {name!r} in a serving install", name=name)

        sys.meta_path.insert(0, Blocker())
        count = 0
        for package in ("dragoman_protos", "dragoman_service"):
            for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
                importlib.import_module(module.name)
                count += 1
        assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)
        print(count)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= len(modules("dragoman_service")) - 1  # all but the package's own __init__


@pytest.mark.parametrize("package", PACKAGES)
def test_every_library_is_a_declared_dependency(package: str) -> None:
    requirements = [*PROJECT["dependencies"]]
    for extra in EXTRAS[package]:
        requirements += PROJECT["optional-dependencies"][extra]
    declared = {_normalised(Requirement(requirement).name) for requirement in requirements}
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in _third_party_imports(path)
        if not declared & {_normalised(provider) for provider in providers.get(name, ())}
    }
    assert not undeclared


def test_namespace_packages_are_declared_too() -> None:
    """Several distributions share the name `google`: the test above is content with any of them."""
    assert any("google.rpc" in path.read_text() for path in modules("dragoman_service"))
    declared = {_normalised(Requirement(requirement).name) for requirement in PROJECT["dependencies"]}
    assert {"protobuf", "googleapis-common-protos"} <= declared


def _third_party_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names - set(PACKAGES)


def _normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_functions_stay_small() -> None:
    too_long = []
    for path in all_modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= MAX_FUNCTION_LINES:
                    too_long.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not too_long


def test_package_init_files_say_what_a_package_is_for_and_do_nothing() -> None:
    for path in all_modules():
        if path.name == "__init__.py":
            docstring, *rest = ast.parse(path.read_text()).body or [None]
            assert docstring is None or isinstance(docstring, ast.Expr), path
            allowed = (ast.ImportFrom, ast.Assign)
            assert all(isinstance(node, allowed) for node in rest), f"{path}: only names of its own modules"


def test_every_package_of_the_service_says_where_to_begin() -> None:
    packages = [path for path in PACKAGES["dragoman_service"].iterdir() if (path / "__init__.py").exists()]
    assert len(packages) == 10
    for package in packages:
        assert "Begin with `" in (package / "__init__.py").read_text(), package


def test_onnxruntime_is_imported_where_its_telemetry_is_turned_off() -> None:
    importing = [
        path.name
        for path in all_modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and any(alias.name.startswith("onnxruntime") for alias in node.names)
    ]
    assert importing == ["ort.py"]


def test_nothing_stands_outside_the_packages_but_the_errors() -> None:
    assert {path.name for path in PACKAGES["dragoman_service"].glob("*.py")} == {"__init__.py", "errors.py"}


def test_the_wheel_is_the_tree(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tree = {
        path.relative_to(folder.parent).as_posix()
        for folder in PACKAGES.values()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == tree


@pytest.mark.parametrize(
    ("document", "programs"),
    [
        ("README.md", {"make", "dragoman", "python"}),
        ("recipes/README.md", {"dragoman", "python"}),
        ("docs/operations.md", {"dragoman", "python"}),
        ("docs/http.md", {"dragoman", "python"}),
    ],
)
def test_readme_commands_exist(document: str, programs: set[str]) -> None:
    """Every `dragoman ...` and `python SCRIPT ...` is understood as it stands; every `make ...` has its target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    parsers = _command_parsers()
    checked = set()
    for words in _documented_commands(ROOT / document):
        program, *arguments = words
        checked.add(program)
        if program == "make":
            assert {word for word in arguments if "=" not in word} <= targets, words
        elif "--help" not in arguments:
            command, *rest = arguments
            parser = _script_parser(ROOT / command) if program == "python" else parsers[command]
            try:
                parser.parse_args(rest)
            except SystemExit:
                pytest.fail(f"not understood: {shlex.join(words)}")
    assert checked == programs


def _command_parsers() -> dict[str, argparse.ArgumentParser]:
    parsers = {}
    for entry in importlib.metadata.entry_points(group="dragoman.commands"):
        parsers[entry.name] = argparse.ArgumentParser(prog=f"dragoman {entry.name}")
        entry.load()().add_arguments(parsers[entry.name])
    return parsers


def _script_parser(path: Path) -> argparse.ArgumentParser:
    parser = runpy.run_path(str(path))["argument_parser"]()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def _documented_commands(document: Path) -> Iterator[list[str]]:
    """The words of each command line in a document's code blocks, up to a pipe, a redirection or an ampersand."""
    text = document.read_text().replace("\\\n", " ")
    for line in re.findall(r"^(?: {4})?(?:\S*/)?((?:make|dragoman|python) .+)$", text, flags=re.MULTILINE):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        end = next((place for place, word in enumerate(words) if set(word) <= set("|&;<>")), len(words))
        yield words[:end]


def test_links_between_documents_lead_somewhere() -> None:
    documents = [ROOT / name for name in _tracked_files() if name.endswith(".md")]
    dead = [
        f"{document.relative_to(ROOT)}: {link}"
        for document in documents
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / link).exists()
    ]
    assert not dead


def test_nobody_forks() -> None:
    """A fork copies the locks that other threads hold, but not the threads: the copy may wait for ever."""
    sources = [name for name in _tracked_files() if name.endswith(".py")]
    assert not [f"{name}: {found}" for name in sources for found in _forks((ROOT / name).read_text())]


@pytest.mark.parametrize(
    "code",
    [
        "os.fork()",
        "from os import fork",
        "pty.fork()",
        "subprocess.run(command, preexec_fn=limit)",
        "multiprocessing.Process(target=work)",
        "from multiprocessing import Pool",
        "from torch.multiprocessing import Pool",
        "multiprocessing.get_context()",
        "multiprocessing.get_context('fork')",
        "context = multiprocessing.get_context(method='fork')",
        "set_start_method(method)",
        "ProcessPoolExecutor()",
        "futures.ProcessPoolExecutor(max_workers=2)",
    ],
)
def test_a_fork_is_found(code: str) -> None:
    assert len(list(_forks(f"def work():\n    {code}\n"))) == 1


def _forks(code: str) -> Iterator[str]:
    """What starts processes by a fork. That is the default of multiprocessing, so each use must name another way."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Attribute(attr="fork" | "forkpty") | ast.alias(name="fork" | "forkpty"):
                yield ast.unparse(node)
            case ast.keyword(arg="preexec_fn") | ast.ImportFrom(module="multiprocessing" | "torch.multiprocessing"):
                yield ast.unparse(node)
            case ast.Attribute(ast.Name("multiprocessing"), name) if name != "get_context":
                yield ast.unparse(node)
            case ast.Call(ast.Attribute(attr="get_context" | "set_start_method") | ast.Name("set_start_method")):
                ways = [*node.args, *(keyword.value for keyword in node.keywords)]
                if [ast.unparse(way) for way in ways] not in (["'spawn'"], ["'forkserver'"]):
                    yield ast.unparse(node)
            case ast.Call(ast.Attribute(attr="ProcessPoolExecutor") | ast.Name("ProcessPoolExecutor")):
                if len(node.args) < 2 and "mp_context" not in {keyword.arg for keyword in node.keywords}:
                    yield ast.unparse(node)


def test_no_path_of_somebodys_machine() -> None:
    private = re.compile(rb"(?<![\w.}-])/(?:home|Users|root|work|opt)/\w")
    assert not [name for name in _tracked_files() if private.search((ROOT / name).read_bytes())]


def _tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]
