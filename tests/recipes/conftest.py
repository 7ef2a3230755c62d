from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


@contextlib.contextmanager
def _loaded(recipe: str, *modules: str) -> Iterator[SimpleNamespace]:
    """Modules of a recipe, which import each other by bare name; gone afterwards, for another recipe's have the same."""
    folder = RECIPES / recipe
    sys.path.insert(0, str(folder))
    try:
        yield SimpleNamespace(folder=folder, **{module: importlib.import_module(module) for module in modules})
    finally:
        sys.path.remove(str(folder))
        for module, loaded in list(sys.modules.items()):
            if str(getattr(loaded, "__file__", None) or "").startswith(f"{folder}/"):
                del sys.modules[module]


@pytest.fixture(scope="module")
def resnet50() -> Iterator[SimpleNamespace]:
    with _loaded("resnet50_imagenet", "records", "dataset", "prepare", "sources", "model", "train") as modules:
        yield modules


@pytest.fixture(scope="module")
def driving() -> Iterator[SimpleNamespace]:
    with _loaded("driving_frames", "dataset", "detector", "prepare", "train") as modules:
        yield modules


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 training and 24 validation images in 4 + 4 files; not to be changed."""
    folder = tmp_path_factory.mktemp("photographs")
    arguments = ["--images", "96", "--image-size", "64", "--shards", "4", "--validation-share", "0.25"]
    with _loaded("resnet50_imagenet", "prepare") as modules:
        assert modules.prepare.main(["--output", str(folder), *arguments]) == 0
    return folder


@pytest.fixture
def damaged(photographs: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of some files, one of them changed by a function of its bytes."""

    def copy(split: str, number: int, change: Callable[[bytearray], bytes | bytearray]) -> Path:
        for file in sorted((photographs / split).iterdir()):
            data: bytes | bytearray = bytearray(file.read_bytes())
            if file.name.startswith(f"{split}-{number:05}-of-"):
                data = change(bytearray(data))
            (tmp_path / file.name).write_bytes(data)
        return tmp_path

    return copy
