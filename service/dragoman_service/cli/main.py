"""The command `dragoman`: finds the installed subcommands and runs the one that is asked for."""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from dragoman_service.errors import DragomanError

COMMAND_GROUP = "dragoman.commands"
_BASE = ()
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE)
"""Reasons for which a file or a pipe takes no more: no fault of the program."""
# Module that could not be imported -> the name of its library in the message, and the extras that install it.
_LIBRARIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnxruntime": ("ONNX Runtime", ("cpu",)),
    "torch": ("PyTorch", ("train", "export")),
    "safetensors": ("safetensors", ("train", "export")),
    "sacrebleu": ("sacreBLEU", ("train",)),
    "babel": ("Babel", ("train",)),
    "tensorboard": ("TensorBoard", ("train",)),
    "matplotlib": ("Matplotlib", ("train",)),
    "onnx": ("ONNX", ("export",)),
    "uvicorn": ("uvicorn", ("http",)),
    "huggingface_hub": ("the Hugging Face Hub", ("hf",)),
    "yaml": ("PyYAML", ("export",)),
    "cryptography": ("cryptography", _BASE),
    "google": ("Protocol Buffers", _BASE),
    "grpc": ("gRPC", _BASE),
    "grpc_health": ("gRPC's health service", _BASE),
    "grpc_reflection": ("gRPC's reflection", _BASE),
    "grpc_status": ("gRPC's rich errors", _BASE),
    "numpy": ("NumPy", _BASE),
    "prometheus_client": ("the Prometheus client", _BASE),
    "sentencepiece": ("SentencePiece", _BASE),
    "tqdm": ("tqdm", _BASE),
}
_ORDER = (
    "serve", "translate", "models", "tokens", "data", "train", "evaluate", "runs", "export", "import", "distill",
    "back-translate",
)  # fmt: skip


class Command(Protocol):
    """Interface of the classes that the entry points of the group `dragoman.commands` name."""

    help: str
    """One line for the list of commands."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Run the command. Returns the exit status."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status. 0: done; 1: the command failed; 2: wrong arguments, or a library is missing; 130: interrupted.
    """
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    # gRPC's core, which the commands import, would write busy ports and failed handshakes to stderr beside their
    # messages, and what callers say at the end of their connections, which could forge lines of the log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    parser = argparse.ArgumentParser(
        prog="dragoman",
        description="Train a translation model, export it to ONNX, serve it over gRPC, and translate with it.",
    )
    parser.add_argument("--version", action="version", version=f"dragoman {importlib.metadata.version('dragoman')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for entry in _entry_points():
        try:
            command: Command = entry.load()()
        except (ImportError, AttributeError) as error:
            # The other commands must still work, and the help must still list this one.
            missing = commands.add_parser(entry.name, help=_missing(entry.name, error), add_help=False)
            missing.set_defaults(run=None, name=entry.name, problem=_missing(entry.name, error))
            continue
        description = inspect.getdoc(command) or command.help
        subparser = commands.add_parser(entry.name, help=command.help, description=description)
        subparser.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, name=entry.name)
    args, unknown = parser.parse_known_args(arguments)
    if args.run is None:
        return _fail(args.problem, 2)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return _run_command(args)


def _run_command(args: argparse.Namespace) -> int:
    try:
        status = int(args.run(args))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _LIBRARIES:
            raise
        return _fail(_missing(args.name, error), 2)
    except DragomanError as error:
        _finish_stdout()
        return _fail(str(error), 1)
    except MemoryError as error:
        _finish_stdout()
        return _fail(f"not enough memory{f': {error}' if str(error) else ''}", 1)
    except OSError as error:
        failed = _finish_stdout()
        if failed is None and error.errno not in _FULL:
            raise
        # Of two files, the second is the one that was written.
        return _not_written(error.filename2 or error.filename, error)
    failed = _finish_stdout()
    return status if failed is None else _not_written("standard output", failed)


def _not_written(name: str | None, error: OSError) -> int:
    if error.errno == errno.EPIPE:  # the reader of the output, such as `head`, has closed the pipe
        return 1
    return _fail(f"{name}: {error.strerror}" if name else str(error.strerror), 1)


def _finish_stdout() -> OSError | None:
    """Write what is left of standard output. Returns why that failed.

    What could not be written is dropped. Python would try again at its end, and print another message.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return error
    return None


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=COMMAND_GROUP)
    rank = {name: place for place, name in enumerate(_ORDER)}
    return sorted(found, key=lambda entry: (rank.get(entry.name, len(rank)), entry.name))


def _missing(command: str, error: ImportError | AttributeError) -> str:
    module = (error.name or "").split(".")[0]
    library, extras = _LIBRARIES.get(module, (module or str(error), _BASE))
    extra = command if command in extras else next(iter(extras), None)
    # By path: a package registry may have no package of this name, or one of another project.
    install = f"pip install '.[{extra}]'" if extra else "pip install ."
    return f"dragoman {command} needs {library}: run {install} in a checkout of Dragoman"


def _fail(message: str, status: int) -> int:
    print(f"dragoman: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
