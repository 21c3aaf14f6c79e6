"""Which names a file may ask for: data, stock layers, foreign classes, or code.

Safety does not rest on the list of code: a name is used only when it is on a list of what
is known to be harmless. The list of code decides the words alone, so that nobody is told to
trust a file that asks for a shell.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

# Described, and rebuilt by this package where it needs them.
_DATA = frozenset(
    {
        "_codecs.encode",
        "argparse.Namespace",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.dict",
        "builtins.frozenset",
        "builtins.list",
        "builtins.range",
        "builtins.set",
        "builtins.slice",
        "builtins.tuple",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.defaultdict",
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "torch.Size",
        "torch.Tensor",
        "torch.device",
        "torch.nn.parameter.Buffer",
        "torch.nn.parameter.Parameter",
        "torch._tensor._rebuild_from_type_v2",
        "torch.serialization._get_layout",
        "types.SimpleNamespace",
    }
)
# The last two are Python 2's.
_TYPES = frozenset({"bool", "bytes", "float", "int", "object", "str", "type", "long", "unicode"})

# Never part of a model. `builtins` is listed because all of it that is data stands above.
_CODE_MODULES = frozenset(
    """
    _io _operator _osx_support _pickle _posixsubprocess _socket
    _thread _winapi aiohttp ast asyncio atexit bdb builtins cProfile cgi code codeop codecs
    commands compileall concurrent ctypes cffi dill cloudpickle joblib dis distutils
    doctest ensurepip fileinput ftplib gc glob http httpx idlelib imaplib imp importlib inspect
    io lib2to3 linecache logging mailcap marshal mmap modulefinder multiprocessing nt
    ntpath numpy.distutils numpy.f2py numpy.testing operator os pdb pickle pickletools pip
    pipes pkgutil platform poplib posix posixpath profile pty py_compile pydoc requests
    resource rlcompleter runpy sched setuptools shelve shutil signal site smtplib socket
    socketserver sqlite3 ssl subprocess symtable sys sysconfig tarfile telnetlib tempfile
    test threading timeit tkinter token trace types unittest urllib urllib3 uu venv warnings
    webbrowser weakref winreg wsgiref xmlrpc zipapp zipfile zipimport
    torch.hub torch.jit torch.package torch.export torch.compiler torch.ops
    torch.multiprocessing torch.distributed.rpc torch.distributed.elastic
    torch.utils.bottleneck torch.utils.collect_env torch.utils.cpp_extension
    torch.utils.model_dump torch._dynamo torch._inductor torch._functorch torch._lazy
    """.split()  # noqa: SIM905 - a line each would hide the list
)
_CODE_NAMES = frozenset(
    """
    torch.load torch.save torch.serialization.load torch.serialization.save torch.from_file
    torch.compile torch.storage._load_from_bytes torch.classes.load_library numpy.load
    functools.reduce
    """.split()  # noqa: SIM905 - a line each would hide the list
)


class Sort(enum.Enum):
    """What a name is to the reader."""

    DATA = "data"
    LAYER = "layer"
    FUNCTION = "function"
    LAZY = "layer without values"
    FOREIGN = "foreign"
    CODE = "code"


def sort_of(name: str) -> Sort:
    """Return what a name is. Nothing is imported to find out."""
    if name in LAYERS:
        return Sort.LAYER
    if name in FUNCTIONS:
        return Sort.FUNCTION
    if name in _DATA or name in DTYPES or _is_tensor_name(name):
        return Sort.DATA
    if name.startswith("builtins.") and name.removeprefix("builtins.") in _TYPES:
        return Sort.DATA
    if name in _LAZY:
        return Sort.LAZY
    parts = name.split(".")
    prefixes = {".".join(parts[:count]) for count in range(1, len(parts))}
    return Sort.CODE if name in _CODE_NAMES or prefixes & _CODE_MODULES else Sort.FOREIGN


def _is_tensor_name(name: str) -> bool:
    head, _, last = name.rpartition(".")
    if head == "torch._utils":
        return last.startswith("_rebuild_")
    return head in ("torch", "torch.cuda", "torch.storage") and last.endswith("Storage")


def _stock_layers() -> dict[str, type[nn.Module]]:
    """Return every layer class that torch exports and this reader rebuilds, by full name."""
    # Lazy layers have no weights yet; `Module` cannot be run, nor can the base classes of
    # the recurrent layers; the triplet loss keeps a callable of the user's; the others are
    # deprecated and warn.
    left_out = (
        "Module",
        "Container",
        "NLLLoss2d",
        "RNNBase",
        "RNNCellBase",
        "TripletMarginWithDistanceLoss",
    )
    found: dict[str, type[nn.Module]] = {}
    for export in nn.modules.__all__:
        layer = getattr(nn.modules, export)
        if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
            continue
        if export in left_out or export.startswith("Lazy"):
            continue
        found[f"{layer.__module__}.{layer.__qualname__}"] = layer
    inner = nn.modules.linear.NonDynamicallyQuantizableLinear  # in every MultiheadAttention
    found[f"{inner.__module__}.{inner.__qualname__}"] = inner
    return found


LAYERS = MappingProxyType(_stock_layers())
"""Stock layers by the name that a pickle gives them."""

FUNCTIONS: MappingProxyType[str, Any] = MappingProxyType(
    {
        "torch._C._nn.gelu": nn.functional.gelu,
        "torch.nn.functional.gelu": nn.functional.gelu,
        "torch.nn.functional.relu": nn.functional.relu,
        "torch.nn.functional.silu": nn.functional.silu,
        "torch.nn.functional.elu": nn.functional.elu,
        "torch.nn.functional.mish": nn.functional.mish,
    }
)
"""Activations that a transformer layer may hold as an attribute."""

# Quantised and sub-byte types have no plain arithmetic, so no Jacobian.
DTYPES = MappingProxyType(
    {
        str(dtype): dtype
        for dtype in vars(torch).values()
        if isinstance(dtype, torch.dtype)
        and not str(dtype).startswith(("torch.q", "torch.bits", "torch.float4"))
        and not str(dtype).endswith(tuple(f"int{bits}" for bits in range(1, 8)))
    }
)
"""Element types of dense tensors by name, "torch.float32"."""

_LAZY = frozenset(
    {"torch.nn.parameter.UninitializedParameter", "torch.nn.parameter.UninitializedBuffer"}
    | {
        f"{layer.__module__}.{layer.__qualname__}"
        for export, layer in vars(nn.modules).items()
        if export.startswith("Lazy") and isinstance(layer, type)
    }
)
