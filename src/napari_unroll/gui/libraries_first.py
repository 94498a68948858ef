"""Importing this module loads two libraries before Python's imports reach them, which makes those safe and smooth.

deepinv imports torchvision, that torch._dynamo, and that triton's extension, which holds an LLVM and exports its
symbols. So does the LLVM of Mesa's llvmpipe. Once napari has drawn, the dynamic linker binds the extension's calls to
Mesa's LLVM and the process dies in its initialisation. Here the extension is loaded first and bound to its own symbols
(RTLD_DEEPBIND).

PyTorch's own libraries hold no Python; here they are loaded without Python's lock, so that the window lives meanwhile.
A later import finds both loaded and changes nothing. Linux only; elsewhere nothing happens. Knows only libraries.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def found(package: str, pattern: str) -> Iterator[Path]:
    """Files of an installed package, which is not imported; none where it is not installed."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(folder).glob(pattern)


def bound_to_itself(path: Path) -> None:
    """Load a library that prefers its own symbols. What cannot be loaded is left to its own import to report."""
    with contextlib.suppress(OSError):
        ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL | getattr(os, "RTLD_DEEPBIND", 0))


def without_the_lock(path: Path) -> None:
    """Load a library while other threads run Python; ``ctypes.CDLL`` would hold them up."""
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    dlopen(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL)


def load() -> None:
    """Load triton's extension and PyTorch's libraries, where they are installed and not yet loaded."""
    if "triton._C.libtriton" not in sys.modules:
        for path in found("triton", "_C/libtriton*.so"):
            bound_to_itself(path)
    if "torch._C" not in sys.modules:
        for path in found("torch", "lib/libtorch.so"):
            without_the_lock(path)


if sys.platform.startswith("linux"):
    load()
