"""Makes TFRecords of JPEGs: from the photographs that come with scikit-image, or from a folder of class folders.

    python prepare.py --output data --images 2048
    python prepare.py --output data --from-folder my_photographs

Downloads nothing. Writes data/train and data/validation. Interrupted, it goes on where it stopped when started again;
finished, it is done at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hetero_tfdata.errors import ConfigurationError, DataError, HeteroTFDataError
from sources import LONGER_SIDE, BadImage, ClassFolders, Image, Photographs, Source

MANIFEST = "manifest.json"
LABELS_FILE = "labels.txt"
_NAMED_BAD_IMAGES = 20  # bad images named one by one; all are counted


class Manifest:
    """What a folder is being filled with and which of its shards are finished, kept in its manifest.json."""

    def __init__(self, folder: Path, arguments: dict[str, Any]) -> None:
        self.path = folder / MANIFEST
        self.arguments = arguments
        self.shards: dict[str, dict[str, Any]] = {}

    def load(self) -> None:
        """Take over the finished shards of an earlier run with the same arguments; refuse those of another."""
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            arguments, shards = stored["arguments"], stored["shards"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{str(self.path)!r} is not what prepare.py writes: remove it, or pass --overwrite") from None
        if arguments != self.arguments:
            differing = [key for key in self.arguments if arguments.get(key) != self.arguments[key]]
            was = ", ".join(f"{key} {arguments.get(key)} not {self.arguments[key]}" for key in differing)
            raise ConfigurationError(
                f"{str(self.path.parent)!r} was made with other arguments ({was}): choose another --output, or pass --overwrite"
            )
        self.shards = shards

    def has(self, name: str, *, with_bad: bool) -> bool:
        """Whether that shard is finished and still there as it was written; `with_bad`: even if images were left out."""
        try:
            shard = self.shards[name]
            return (self.path.parent / name).stat().st_size == shard["bytes"] and (with_bad or not shard["bad"])
        except (KeyError, FileNotFoundError):
            return False

    def add(self, name: str, *, records: int, bad: list[str]) -> None:
        """Note a shard that was just finished."""
        size = (self.path.parent / name).stat().st_size
        self.shards[name] = {"records": records, "bytes": size, "bad": bad}
        self.save()

    def save(self) -> None:
        """Write the file; it is never seen half-written."""
        shards = {name: self.shards[name] for name in sorted(self.shards)}
        _write(self.path, json.dumps({"arguments": self.arguments, "shards": shards}, indent=1) + "\n")

    @property
    def bad(self) -> list[str]:
        """All images that were left out."""
        return [message for shard in self.shards.values() for message in shard["bad"]]


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_shard(path: Path, images: Iterator[Image]) -> int:
    """Write one TFRecord file; it gets its name when it is whole. The number of its records."""
    import tensorflow as tf

    def ints(value: int) -> Any:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    def text(value: str | bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() if isinstance(value, str) else value]))

    partial = path.with_name(f".{path.name.split('-of-')[0]}.partial")  # not a name that a reader of the folder looks for
    count = 0
    try:
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for image in images:
                feature = {
                    "image/encoded": text(image.jpeg),
                    "image/format": text("JPEG"),
                    "image/class/label": ints(image.label),
                    "image/class/text": text(image.class_name),
                    "image/filename": text(image.filename),
                    "image/height": ints(image.height),
                    "image/width": ints(image.width),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString(deterministic=True))
                count += 1
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


class Progress:
    """A bar on a terminal, four lines elsewhere."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.bar = total, done, None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, unit="image", desc="prepare")

    def step(self) -> None:
        """One more image."""
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        elif self.done * 4 // self.total > (self.done - 1) * 4 // self.total:
            print(f"prepare: {self.done} of {self.total} images", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


def prepare(folder: Path, source: Source, arguments: dict[str, Any], *, skip_bad: bool, overwrite: bool = False) -> Manifest:
    """Fill `folder` with what `source` gives, shard by shard, leaving out the shards that are there already."""
    manifest = Manifest(folder, arguments)
    if overwrite:
        _remove(folder, ("train", "validation"))
    else:
        manifest.load()
    shards = [
        # In one piece, for the classes take turns: every n-th image would give files of one class each.
        (
            f"{split}/{split}-{number:05}-of-{count:05}.tfrecord",
            split,
            range(total * number // count, total * (number + 1) // count),
        )
        for split, total in source.counts.items()
        for count in [min(arguments["shards"], total)]
        for number in range(count)
    ]
    missing = [shard for shard in shards if not manifest.has(shard[0], with_bad=skip_bad)]
    if not missing:
        return manifest
    for split, total in source.counts.items():
        if total:
            (folder / split).mkdir(parents=True, exist_ok=True)
            _write(folder / split / LABELS_FILE, "".join(f"{name}\n" for name in source.classes))
    manifest.save()
    total = sum(source.counts.values())
    progress = Progress(total, total - sum(len(indices) for _, _, indices in missing))
    try:
        for name, split, indices in missing:
            bad: list[str] = []

            def images(split: str = split, indices: range = indices, bad: list[str] = bad) -> Iterator[Image]:
                for index in indices:
                    try:
                        yield source.make(split, index)
                    except BadImage as problem:
                        if not skip_bad:
                            raise DataError(
                                f"{problem}; remove it, or pass --on-bad-image skip to leave such files out"
                            ) from None
                        bad.append(str(problem))
                    progress.step()

            manifest.add(name, records=write_shard(folder / name, images()), bad=bad)
    finally:
        progress.close()
    return manifest


def _remove(folder: Path, splits: Sequence[str]) -> None:
    """What an earlier run wrote, and nothing else."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for split in splits:
        for file in (folder / split).glob(f"{split}-*-of-*.tfrecord"):
            file.unlink()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="prepare.py", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to fill with train/ and validation/")
    parser.add_argument("--images", type=int, metavar="N", help="crops of the photographs, both splits together (2048)")
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help=f"longer side in pixels ({LONGER_SIDE} for the photographs; a folder's files stay as they are)",
    )
    parser.add_argument("--from-folder", type=Path, metavar="DIR", help="a folder of class folders of JPEGs, instead")
    parser.add_argument("--shards", type=int, default=16, metavar="K", help="files per split (%(default)s)")
    parser.add_argument("--validation-share", type=float, default=0.1, metavar="X", help="kept back (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of crops and splits (%(default)s)")
    parser.add_argument("--on-bad-image", choices=("stop", "skip"), default="stop", help="in --from-folder (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace what other arguments made in DIR")
    options = parser.parse_args(argv)
    if options.from_folder is not None and options.images is not None:
        raise ConfigurationError(
            "--images counts crops of the built-in photographs; --from-folder takes all files of its folder"
        )
    options.images = 2048 if options.images is None else options.images
    for name, low in (("images", 1), ("shards", 1), ("seed", 0), ("image_size", 16)):
        value = getattr(options, name)
        if value is not None and value < low:
            raise ConfigurationError(f"--{name.replace('_', '-')}: expected at least {low}, got {value}")
    if not 0 <= options.validation_share < 1:
        raise ConfigurationError(f"--validation-share: expected a share from 0 to below 1, got {options.validation_share}")
    return options


def _source(options: argparse.Namespace) -> tuple[Source, dict[str, Any]]:
    """Where the images come from, and all that decides what is written."""
    arguments = {name: getattr(options, name) for name in ("image_size", "shards", "validation_share", "seed")}
    if options.from_folder is None:
        side = options.image_size or LONGER_SIDE
        photographs = Photographs(options.images, side, options.validation_share, options.seed)
        return photographs, {"source": "photographs", "images": options.images, **arguments, "image_size": side}
    folders = ClassFolders(options.from_folder, options.image_size, options.validation_share, options.seed)
    return folders, {"source": str(options.from_folder.resolve()), "source_digest": folders.digest, **arguments}


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        options = parse(argv)
        source, arguments = _source(options)
        manifest = prepare(
            options.output, source, arguments, skip_bad=options.on_bad_image == "skip", overwrite=options.overwrite
        )
    except HeteroTFDataError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"prepare.py: can't write to {str(options.output)!r}: {error}", file=sys.stderr)
        return 1
    for message in manifest.bad[:_NAMED_BAD_IMAGES]:
        print(f"prepare.py: left out {message}", file=sys.stderr)
    if manifest.bad:
        print(f"prepare.py: left out {len(manifest.bad)} bad images in all", file=sys.stderr)
    for split in ("train", "validation"):
        shards = [shard for name, shard in manifest.shards.items() if name.startswith(f"{split}/")]
        records, size = sum(shard["records"] for shard in shards), sum(shard["bytes"] for shard in shards)
        print(
            f"{options.output / split}: {records} images of {len(source.classes)} classes "
            f"in {len(shards)} files, {size / 1e6:.1f} MB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
