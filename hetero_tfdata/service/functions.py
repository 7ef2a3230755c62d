"""The Python functions of a dataset's graph: which ones they are, told so that another process can look for the same ones.

A graph holds a number for each function ("pyfunc_3"), and each process a list of its own from number to function, so that the
same number may name another function elsewhere. What is compared instead is told here: name, source, what the function has
closed over, the file that it stands in, and the versions of what that file imports. Nothing of it is code, and nothing is
unpickled: a worker imports what the job's own source folder has.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import inspect
import platform
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["Functions", "PythonFunction", "difference", "digest", "is_importable", "versions_of"]

_DEEPEST = 8
# All hosts of a job have one version of them: distribute() asks.
_ELSEWHERE = ("hetero_tfdata", "tensorflow", "keras")


@dataclass(frozen=True)
class PythonFunction:
    """A function that a graph calls.

    Attributes:
        token: its number in the graph: "pyfunc_3".
        module: where it is defined.
        name: as it is defined there: "decode", "make_dataset.<locals>.decode".
        source: digest of its source, without comments, and of its default values.
        closure: digest of what it has closed over, as far as that are plain values and functions.
        outputs: of a py_function the dtypes that it gives; None: it is a numpy_function.
    """

    token: str
    module: str
    name: str
    source: str
    closure: str
    outputs: tuple[str, ...] | None = None

    @property
    def number(self) -> int:
        """Its place in the order in which the process that made the graph registered functions."""
        return int(self.token.rpartition("_")[2])


@dataclass(frozen=True)
class Functions:
    """What a worker needs to know to serve a graph with Python functions.

    Attributes:
        functions: in the order in which they were registered.
        dataset_fn: "package.module:function", which makes the dataset and with it the functions; None: each function can be
            imported by itself.
        versions: what must be the same there: Python, each package that the functions' modules import, and of each module of
            the job itself the digest of its file.
    """

    functions: tuple[PythonFunction, ...]
    dataset_fn: str | None
    versions: Mapping[str, str]

    def __str__(self) -> str:
        names = [function.name for function in self.functions]
        return f"the Python function{'s' if len(names) > 1 else ''} {', '.join(dict.fromkeys(names))}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Functions:
        """Of what `as_dict` wrote; raises KeyError, TypeError or ValueError for anything else."""
        functions = []
        for one in values["functions"]:
            outputs = one["outputs"]
            functions.append(PythonFunction(**{**one, "outputs": None if outputs is None else tuple(map(str, outputs))}))
            if functions[-1].number < 0:
                raise ValueError(f"expected a number behind pyfunc_, got {functions[-1].token}")
        dataset_fn = values["dataset_fn"]
        versions = {str(name): str(version) for name, version in values["versions"].items()}
        return cls(tuple(functions), None if dataset_fn is None else str(dataset_fn), versions)


def is_importable(function: Callable[..., Any]) -> bool:
    """Whether another process finds this very function under its module and name."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or not hasattr(function, "__qualname__"):
        return False
    value: Any = module
    for part in function.__qualname__.split("."):
        value = getattr(value, part, None)
    return value is function


def digest(function: Callable[..., Any]) -> tuple[str, str]:
    """(of its source and default values, of what it has closed over).

    Comments and lay-out don't count; where there is no source, its code does. Of what is closed over numbers, texts, arrays,
    containers of them and other functions count by value, all else by its type.
    """
    defaults = _described([getattr(function, name, None) for name in ("__defaults__", "__kwdefaults__")], 0, set())
    return _hashed(_source(function) + defaults), _hashed(_closed_over(function, 0, set()))


def versions_of(functions: Iterable[Callable[..., Any]]) -> dict[str, str]:
    """What has to be the same where the functions run; see `Functions.versions`."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    modules: dict[str, ModuleType] = {}
    for function in functions:
        own = sys.modules.get(getattr(function, "__module__", None) or "")
        if own is not None:
            modules.setdefault(own.__name__, own)
            for value in list(vars(own).values()):
                name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
                module = sys.modules.get(name) if isinstance(name, str) else None
                if module is not None:
                    modules.setdefault(module.__name__, module)
    distributions: Mapping[str, Sequence[str]] | None = None
    for name, module in modules.items():
        top = name.partition(".")[0]
        if (top in sys.stdlib_module_names and top != "__main__") or top in _ELSEWHERE:
            continue
        if distributions is None:
            distributions = importlib.metadata.packages_distributions()
        if top in distributions:
            found |= {one: importlib.metadata.version(one) for one in distributions[top]}
        elif (file := getattr(module, "__file__", None)) and file.endswith(".py"):
            found[Path(file).name] = _hashed(Path(file).read_text(encoding="utf-8"))
    return found


def difference(here: Functions, there: Sequence[PythonFunction], versions: Mapping[str, str]) -> str | None:
    """Why the functions that a worker has found are not those of the graph; None: they are.

    Args:
        here: of the process that made the graph.
        there: what the worker has found, in order.
        versions: the worker's.
    """
    names, found = ([one.name for one in functions] for functions in (here.functions, there))
    if len(names) != len(found):
        return f"the dataset has {len(names)} Python functions here and {len(found)} there ({', '.join(found) or 'none'})"
    if names != found:
        place = next(index for index, name in enumerate(names) if name != found[index])
        return f"they are registered in another order there: number {place + 1} is {names[place]} here and {found[place]} there"
    for mine, theirs in zip(here.functions, there, strict=True):
        if mine.source != theirs.source:
            return f"{mine.name} of {mine.module} has another body there"
        if mine.closure != theirs.closure:
            return f"{mine.name} of {mine.module} has closed over other values there"
        if mine.outputs != theirs.outputs:
            return f"{mine.name} of {mine.module} gives {theirs.outputs} there instead of {mine.outputs}"
    for name, version in here.versions.items():
        other = versions.get(name)
        if other != version:
            what = "is another file there" if name.endswith(".py") else f"is {version} here and {other or 'missing'} there"
            return f"{name} {what}"
    return None


def _source(function: Callable[..., Any]) -> str:
    target = function.func if isinstance(function, functools.partial) else function
    if not (inspect.isfunction(target) or inspect.ismethod(target)):
        target = getattr(type(target), "__call__", target)  # noqa: B004
    code = getattr(target, "__code__", None)
    if code is not None and code.co_name == "<lambda>":  # its source is the line, on which others may stand
        return _code(code)
    try:
        return ast.dump(ast.parse(textwrap.dedent(inspect.getsource(target))))
    except (OSError, TypeError, SyntaxError):
        return _code(code)


def _code(code: Any) -> str:
    if code is None:
        return ""
    inner = [_code(one) if inspect.iscode(one) else _described(one, 0, set()) for one in code.co_consts]
    return f"{code.co_code.hex()} {inner} {code.co_names} {code.co_varnames}"


def _closed_over(function: Any, depth: int, seen: set[int]) -> str:
    if isinstance(function, functools.partial):
        return _described([function.args, function.keywords], depth, seen) + _closed_over(function.func, depth + 1, seen)
    if inspect.ismethod(function):
        return _described(function.__self__, depth, seen) + _closed_over(function.__func__, depth + 1, seen)
    if not inspect.isfunction(function):
        return _described(function, depth, seen)
    code, cells = function.__code__, function.__closure__ or ()
    parts = []
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            parts.append(f"{name}={_described(cell.cell_contents, depth + 1, seen)}")
        except ValueError:  # it is not filled yet
            parts.append(f"{name}=")
    return ";".join(parts)


def _described(value: Any, depth: int, seen: set[int]) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return f"{kind}:{value!r}"
    if depth > _DEEPEST or id(value) in seen:
        return kind
    seen = seen | {id(value)}
    if isinstance(value, (list, tuple)):
        return f"{kind}[{','.join(_described(one, depth + 1, seen) for one in value)}]"
    if isinstance(value, (set, frozenset)):
        return f"{kind}[{','.join(sorted(_described(one, depth + 1, seen) for one in value))}]"
    if isinstance(value, Mapping):
        items = (f"{_described(key, depth + 1, seen)}:{_described(one, depth + 1, seen)}" for key, one in value.items())
        return f"{kind}{{{','.join(items)}}}"
    if kind == "numpy.ndarray":
        return f"{kind}:{value.dtype}{value.shape}:{hashlib.sha256(value.tobytes()).hexdigest()}"
    if inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, functools.partial):
        return f"{kind}:{getattr(value, '__qualname__', '')}:{_source(value)}:{_closed_over(value, depth + 1, seen)}"
    if isinstance(value, (type, ModuleType)):
        return f"{kind}:{value.__name__}"
    return kind


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
