"""What a job uploads: its source folder and this package as a wheel, which the image's pip installs without a network."""

from __future__ import annotations

import base64
import hashlib
import shutil
import zipfile
from importlib import metadata
from pathlib import Path

import hetero_tfdata
from hetero_tfdata.sagemaker.job import Job

__all__ = ["staged", "wheel"]

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "out", "job.toml", "job-*.toml")
_TIME = (2020, 1, 1, 0, 0, 0)  # the same files make the same wheel


def staged(job: Job, folder: Path) -> Path:
    """A copy of the job's source folder in `folder`, with the wheel and a line for it in requirements.txt.

    What only belongs to working on it (hidden files, caches, out/, job files, the emulator's channels) is left out.
    """
    copy, source = folder / "source", Path(job.source_dir).resolve()
    data = {(source / channel.local).resolve() for channel in job.channels.values() if channel.local}

    def left_out(place: str, names: list[str]) -> set[str]:
        return _LEFT_OUT(place, names) | {name for name in names if (Path(place) / name).resolve() in data}

    shutil.copytree(source, copy, ignore=left_out)
    name = wheel(copy).name
    requirements = copy / "requirements.txt"
    lines = requirements.read_text().splitlines() if requirements.exists() else []
    kept = [line for line in lines if "hetero_tfdata-" not in line and not line.replace("_", "-").startswith("hetero-tfdata")]
    requirements.write_text("\n".join([*kept, f"./{name}"]) + "\n")
    return copy


def wheel(folder: Path) -> Path:
    """Packs this package as it is installed (PEP 427), its dependencies as its own metadata names them; no build tools."""
    version = hetero_tfdata.__version__
    info = f"hetero_tfdata-{version}.dist-info"
    package = Path(hetero_tfdata.__file__).parent
    contents = {
        str(path.relative_to(package.parent)): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    contents[f"{info}/METADATA"] = _metadata(version)
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: hetero_tfdata\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{info}/entry_points.txt"] = b"[console_scripts]\nhetero-tfdata = hetero_tfdata.cli:main\n"
    record = "".join(f"{name},{_digest(content)},{len(content)}\n" for name, content in contents.items())
    contents[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    file = folder / f"hetero_tfdata-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return file


def _metadata(version: str) -> bytes:
    """Without the extras: pip must find nothing to change in the image."""
    try:
        wanted = [one for one in metadata.requires("hetero-tfdata") or () if "extra ==" not in one]
    except metadata.PackageNotFoundError:
        wanted = []
    lines = [
        "Metadata-Version: 2.1",
        "Name: hetero-tfdata",
        f"Version: {version}",
        *(f"Requires-Dist: {one}" for one in wanted),
    ]
    return ("\n".join(lines) + "\n").encode()


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
