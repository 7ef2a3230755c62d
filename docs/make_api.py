"""Writes docs/api.md from the docstrings of the public names: `make docs`."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).with_name("api.md")

_HEAD = """# Python interface

Made of the docstrings by `make docs`: what is wrong here is wrong there."""
# Of each module the names in its __all__. What is public under two names stands where it comes first.
_MODULES = (
    "hetero_tfdata",
    "hetero_tfdata.cluster",
    "hetero_tfdata.emulate",
    "hetero_tfdata.sagemaker",
    "hetero_tfdata.train.step_timer",
    "hetero_tfdata.train.horovod",
    "hetero_tfdata.train.ranks",
    "hetero_tfdata.train.stopping",
    "hetero_tfdata.augment",
    "hetero_tfdata.augment.presets",
)
_WIDTH = 118
_SPACE = "\0"  # one that no line ends at
_LONGEST_SIGNATURE = 110
_SECTIONS = ("Args:", "Attributes:", "Returns:", "Yields:", "Raises:")


def page() -> str:
    """The whole page."""
    parts, seen = [_HEAD], {}
    for name in _MODULES:
        module = importlib.import_module(name)
        parts += [f"## {name}", *_module(module, seen)]
    return "\n\n".join(parts) + "\n"


def _module(module: ModuleType, seen: dict[int, str]) -> Iterator[str]:
    yield from _blocks(_doc(module))
    operations = _operations() if module.__name__ == "hetero_tfdata.augment" else {}
    for name in module.__all__:
        value = getattr(module, name)
        place = f"{module.__name__}.{name}"
        if name in operations or (inspect.ismodule(value) and value.__name__ in _MODULES):
            continue
        if id(value) in seen:
            yield f"### {name}\n\n`{place}` is `{seen[id(value)]}`."
            continue
        seen[id(value)] = place
        yield f"### {name}"
        yield from _entry(name, value)
    if operations:
        yield "### Operations\n\nOf whole batches; each stands in a `Chain`."
        yield "\n".join(_item(f"`{_signature(value, '', types=False)}`", _first(value)) for value in operations.values())


def _operations() -> dict[str, Any]:
    """Those that the catalogue walks through, by name."""
    from hetero_tfdata.augment.catalogue import CATALOGUE

    return {entry.name: type(entry.make(2)) for entry in CATALOGUE}


def _entry(name: str, value: Any) -> Iterator[str]:
    if inspect.ismodule(value):
        yield from _blocks(_doc(value))
    elif inspect.isclass(value) and issubclass(value, enum.Enum):
        yield from _blocks(_doc(value))
        yield "\n".join(f"- `{name}.{one.name}`, `{one.value!r}`" for one in value)
    else:
        yield f"```\n{_signature(value, name)}\n```"
        yield from _blocks(_doc(value))
        if inspect.isclass(value) and not _is_operation(value):
            yield from _members(name, value)


def _is_operation(kind: type) -> bool:
    """Whose methods a chain calls."""
    return any(one.__module__ == "hetero_tfdata.augment.op" for one in kind.__mro__)


def _members(owner: str, kind: type) -> Iterator[str]:
    """Its own public properties and methods; not the hooks that Keras calls."""
    short, long = [], []
    for name, value in vars(kind).items():
        if name.startswith(("_", "on_")) or not isinstance(value, (property, classmethod, staticmethod)) | callable(value):
            continue
        bound = value if isinstance(value, property) else getattr(kind, name)
        doc = inspect.getdoc(bound) or ""
        shown = f"{owner}.{name}" if isinstance(value, property) else _signature(bound, f"{owner}.{name}", types=False)
        (short if "\n\n" not in doc else long).append((shown, doc))
    if short:
        yield "And:"
        yield "\n".join(_item(f"`{shown}`", " ".join(doc.split())) for shown, doc in short)
    for shown, doc in long:
        yield f"#### `{shown}`"
        yield from _blocks(doc)


def _signature(value: Any, name: str = "", *, types: bool = True) -> str:
    """As it is called: a parameter a line where it is long. The result's type stands in the docstring."""
    parameters, kind = [], None
    for one in inspect.signature(value).parameters.values():
        if one.name == "self":
            continue
        if one.kind is inspect.Parameter.KEYWORD_ONLY and kind not in (one.kind, inspect.Parameter.VAR_POSITIONAL):
            parameters.append("*")
        kind = one.kind
        star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(kind, "")
        text = star + one.name
        annotated = types and one.annotation is not inspect.Parameter.empty
        if annotated:
            text += f": {one.annotation}"
        if one.default is not inspect.Parameter.empty:
            default = "..." if "factory" in repr(one.default) else _plain(one.default)
            text += f" = {default}" if annotated else f"={default}"
        parameters.append(text)
    name = name or value.__name__
    line = f"{name}({', '.join(parameters)})"
    if len(line) <= _LONGEST_SIGNATURE or not types:
        return line
    return f"{name}(\n" + "".join(f"    {text},\n" for text in parameters) + ")"


def _plain(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _doc(value: Any) -> str:
    return inspect.cleandoc(value.__doc__ or "")


def _first(value: Any) -> str:
    return " ".join(_doc(value).split("\n\n")[0].split())


# --- docstrings as Markdown ---


def _blocks(doc: str) -> Iterator[str]:
    """Paragraphs, lists, code and tables of a docstring; its sections as lists."""
    code = ""
    for block in _apart(doc):
        if block.startswith("```") and code:
            code = code.removesuffix("\n```") + "\n\n" + block.removeprefix("```\n")
        elif block.startswith("```"):
            code = block
        else:
            yield from (one for one in (code, block) if one)
            code = ""
    if code:
        yield code


def _apart(doc: str) -> Iterator[str]:
    lines = doc.splitlines()
    while lines:
        if lines[0] in _SECTIONS:
            length = next((number for number, line in enumerate(lines[1:], 1) if line and not line.startswith(" ")), len(lines))
            yield from _section(lines[0].rstrip(":"), textwrap.dedent("\n".join(lines[1:length])).strip("\n"))
        else:
            length = next((number for number, line in enumerate(lines) if not line or line in _SECTIONS), len(lines))
            if length:
                yield _paragraph(lines[:length])
        lines = lines[max(1, length) :]


def _section(title: str, text: str) -> Iterator[str]:
    if title in ("Returns", "Yields"):
        yield _filled(f"{title}: {text}")
        return
    entries = re.split(r"\n(?=\S)", text)
    yield f"{title}:\n\n" + "\n".join(_item(*_named(entry)) for entry in entries)


def _named(entry: str) -> tuple[str, str]:
    name, _, text = " ".join(entry.split()).partition(": ")
    return f"`{name}`", text


def _item(name: str, text: str) -> str:
    return _filled(f"- {name}: {text}" if text else f"- {name}", indent="  ")


def _paragraph(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    if lines[0].startswith("|"):
        return text
    if lines[0].startswith("- "):
        return "\n".join(_filled(one, indent="  ") for one in re.split(r"\n(?=- )", text))
    if all(line.startswith("    ") for line in lines) or _is_code(text):
        return f"```\n{textwrap.dedent(text)}\n```"
    return _filled(text)


def _filled(text: str, indent: str = "") -> str:
    """In lines; code stays whole, and what Markdown would take for its own is escaped outside of it."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    kept = [part.replace(" ", _SPACE) if part.startswith("`") else re.sub(r"[*<]", r"\\\g<0>", part) for part in parts]
    filled = textwrap.fill("".join(kept), _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return filled.replace(_SPACE, " ")


def _is_code(text: str) -> bool:
    try:
        return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in ast.parse(text).body)
    except SyntaxError:
        return False


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    PAGE.write_text(page(), encoding="utf-8")
