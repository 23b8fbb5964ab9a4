"""Compiles libraries that ONNX Runtime's CUDA provider takes for CUDA's own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_HERE = Path(__file__).parent
_HANDLES = {"cublasCreate_v2", "cublasLtCreate"}
"""Calls that must hand out something, or their caller takes it for an error."""
_OF_THE_DRIVER = "libcuda.so.1"


def build(provider: Path, include: Path, output: Path) -> None:
    """Write the stand-ins that a provider needs.

    Args:
        provider: libonnxruntime_providers_cuda.so
        include: Folder of CUDA's headers.
        output: Folder for the libraries, to stand in LD_LIBRARY_PATH.
    """
    written = set(re.findall(r"\b(\w+)\(", (_HERE / "runtime.c").read_text()))
    for library, names in _wanted(provider).items():
        lines = ["#include <stddef.h>", "static int handle;"]
        lines += [
            f"int {name}(void **h) {{ *h = &handle; return 0; }}"
            if name in _HANDLES
            else f"int {name}(void) {{ return 0; }}"
            for name in sorted(names - written)
        ]
        sources = [output / f"{library}.c"]
        sources[0].write_text("\n".join(lines) + "\n")
        if library.startswith("libcudart"):
            sources.append(_HERE / "runtime.c")
        (output / f"{library}.map").write_text(f"{library} {{ global: *; }};\n")
        _compile(output / library, sources, f"-I{include}", f"-Wl,--version-script={output / library}.map")
    _compile(output / "libcudnn.so.9", [_HERE / "cudnn.c"])
    (output / "libcudnn.so").symlink_to("libcudnn.so.9")


def _wanted(provider: Path) -> dict[str, set[str]]:
    """The names that the provider does not have itself, by the library that shall have them."""
    needed = re.findall(r"NEEDED.*\[(libcu.*)\]", _output("readelf", "-d", provider))
    wanted: dict[str, set[str]] = {library: set() for library in needed}
    for line in _output("nm", "-D", "--undefined-only", provider).splitlines():
        name, _, library = line.split()[-1].partition("@")
        if library in wanted:
            wanted[library].add(name)
        elif re.match("cu[A-Z]", name):  # which is not versioned
            wanted[_OF_THE_DRIVER].add(name)
    return wanted


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _compile(library: Path, sources: list[Path], *options: str) -> None:
    command = ["gcc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{library.name}", "-o", library, *sources, *options]
    subprocess.run([str(part) for part in command], check=True)
