from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
from PIL import Image

from support import clean_environment

SMALL = ("--images", "24", "--image-size", "48", "--shards", "3", "--validation-share", "0.25")


@pytest.fixture
def prepare(resnet50: SimpleNamespace, tmp_path: Path) -> Callable[..., int]:
    def run(*arguments: str, output: Path = tmp_path / "data") -> int:
        return resnet50.prepare.main(["--output", str(output), *arguments])

    return run


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders with 10 JPEGs each."""
    for number, name in enumerate(("zebra", "ant")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for shade in range(10):
            picture = Image.new("RGB", (40 + shade, 30), (shade * 20, number * 200, 0))
            picture.save(tmp_path / "pictures" / name / f"{shade}.jpg")
    return tmp_path / "pictures"


def examples(folder: Path) -> list[dict[str, object]]:
    found = []
    for file in sorted(folder.glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(file)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            found.append({name: (list(f.bytes_list.value) or list(f.int64_list.value))[0] for name, f in features.items()})
    return found


def digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# --- the photographs ---


def test_photographs_become_examples_with_the_usual_keys(prepare: Callable, tmp_path: Path) -> None:
    assert prepare(*SMALL) == 0
    training, validation = examples(tmp_path / "data" / "train"), examples(tmp_path / "data" / "validation")
    assert (len(training), len(validation)) == (18, 6)
    names = (tmp_path / "data" / "train" / "labels.txt").read_text().split()
    assert len(names) == 8
    for example in training + validation:
        assert set(example) == {
            "image/encoded",
            "image/format",
            "image/class/label",
            "image/class/text",
            "image/filename",
            "image/height",
            "image/width",
        }
        height, width, _ = tf.io.decode_jpeg(example["image/encoded"]).shape
        assert (height, width) == (example["image/height"], example["image/width"])
        assert {height, width} == {48, 36}
        assert names[example["image/class/label"]].encode() == example["image/class/text"]
        assert example["image/format"] == b"JPEG"
    assert len({example["image/encoded"] for example in training + validation}) == 24  # no crop twice, in neither split


def test_every_file_holds_every_class(prepare: Callable, tmp_path: Path) -> None:
    """Workers take whole files: one class a file would give batches of one class."""
    assert prepare("--images", "64", "--image-size", "16", "--shards", "4", "--validation-share", "0") == 0
    for file in (tmp_path / "data" / "train").glob("*.tfrecord"):
        copy = tmp_path / file.name
        copy.mkdir()
        (copy / "x.tfrecord").write_bytes(file.read_bytes())
        assert {example["image/class/label"] for example in examples(copy)} == set(range(8))
    assert not (tmp_path / "data" / "validation").exists()


def test_default_crops_are_what_imagenet_photographs_weigh(resnet50: SimpleNamespace) -> None:
    """WORKLOADS.md C: 500x375 or 375x500, about 45 to 110 kB on average; a benchmark on blank images would lie."""
    source = resnet50.sources.Photographs(2048, resnet50.sources.LONGER_SIDE, 0.1, 0)
    images = [source.make("train", index) for index in range(24)]
    assert {(image.width, image.height) for image in images} == {(500, 375), (375, 500)}
    assert 40_000 < sum(len(image.jpeg) for image in images) / len(images) < 110_000
    assert min(len(image.jpeg) for image in images) > 8_000


def test_another_seed_gives_other_crops(resnet50: SimpleNamespace) -> None:
    sources = [resnet50.sources.Photographs(8, 32, 0, seed) for seed in (1, 1, 2)]
    first, again, other = ([source.make("train", index).jpeg for index in range(8)] for source in sources)
    assert first == again
    assert not set(first) & set(other)


def test_interrupted_and_resumed_gives_the_same_bytes(prepare: Callable, tmp_path: Path, resnet50: SimpleNamespace) -> None:
    assert prepare(*SMALL) == 0
    whole = digests(tmp_path / "data")
    (tmp_path / "data" / "train" / "train-00001-of-00003.tfrecord").unlink()
    kept = tmp_path / "data" / "train" / "train-00000-of-00003.tfrecord"
    written = kept.stat().st_mtime_ns
    assert prepare(*SMALL) == 0
    assert digests(tmp_path / "data") == whole
    assert kept.stat().st_mtime_ns == written
    # a file that something cut off afterwards is made anew too
    kept.write_bytes(kept.read_bytes()[:100])
    assert prepare(*SMALL) == 0
    assert digests(tmp_path / "data") == whole


def test_a_failure_leaves_finished_files_and_no_half_one(
    prepare: Callable, tmp_path: Path, resnet50: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = resnet50.sources.Photographs.make

    def fail_at_last(self: object, split: str, index: int) -> object:
        if split == "train" and index == 17:
            raise OSError(28, "No space left on device")
        return make(self, split, index)

    monkeypatch.setattr(resnet50.sources.Photographs, "make", fail_at_last)
    assert prepare(*SMALL) == 1
    files = {file.name for file in (tmp_path / "data" / "train").iterdir()}
    assert files == {"labels.txt", "train-00000-of-00003.tfrecord", "train-00001-of-00003.tfrecord"}
    monkeypatch.undo()
    assert prepare(*SMALL) == 0
    assert prepare(*SMALL, output=tmp_path / "other") == 0
    assert digests(tmp_path / "data") == digests(tmp_path / "other")


def test_finished_run_is_done_at_once(prepare: Callable, tmp_path: Path, resnet50: SimpleNamespace) -> None:
    assert prepare(*SMALL) == 0
    script = resnet50.folder / "prepare.py"
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(script.parent)!r})\n"
        f"sys.argv = ['prepare.py', '--output', {str(tmp_path / 'data')!r}, *{SMALL!r}]\n"
        f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('tensorflow', 'numpy', 'PIL', 'skimage') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment(), check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    assert "18 images of 8 classes in 3 files" in run.stdout


def test_other_arguments_are_refused_unless_overwritten(
    prepare: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(*SMALL) == 0
    before = digests(tmp_path / "data")
    capsys.readouterr()
    assert prepare(*SMALL, "--seed", "1") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "was made with other arguments (seed 0 not 1): choose another --output, or pass --overwrite" in error
    assert digests(tmp_path / "data") == before
    assert prepare(*SMALL, "--seed", "1", "--shards", "2", "--overwrite") == 0
    assert len(list((tmp_path / "data" / "train").glob("*.tfrecord"))) == 2
    assert len(examples(tmp_path / "data" / "train")) == 18


def test_foreign_manifest_is_an_error(prepare: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text("{}")
    assert prepare(*SMALL) == 2
    assert "manifest.json' is not what prepare.py writes" in capsys.readouterr().err


def test_says_how_far_it_is_in_a_few_lines(prepare: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(*SMALL) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"prepare: {done} of 24 images" for done in (6, 12, 18, 24)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "--images: expected at least 1, got 0"),
        (["--validation-share", "1"], "--validation-share: expected a share from 0 to below 1, got 1.0"),
        (["--from-folder", "nowhere"], "--from-folder: expected a folder of class folders, 'nowhere' is none"),
        (["--from-folder", ".", "--images", "3"], "--images counts crops of the built-in photographs"),
    ],
)
def test_wrong_arguments_are_one_line_and_leave_nothing(
    prepare: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert prepare(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "data").exists()


# --- a folder of class folders ---


def test_class_folders_keep_their_bytes_and_sorted_labels(prepare: Callable, tmp_path: Path, folders: Path) -> None:
    assert prepare("--from-folder", str(folders), "--shards", "2", "--validation-share", "0.2") == 0
    training, validation = examples(tmp_path / "data" / "train"), examples(tmp_path / "data" / "validation")
    assert (len(training), len(validation)) == (16, 4)
    assert (tmp_path / "data" / "train" / "labels.txt").read_text() == "ant\nzebra\n"
    for example in training + validation:
        name = example["image/filename"].decode()
        assert example["image/encoded"] == (folders / name).read_bytes()
        assert ("ant", "zebra")[example["image/class/label"]] == name.split("/")[0]
    for split in (training, validation):
        assert sum(example["image/class/label"] for example in split) * 2 == len(split)
    assert len({example["image/filename"] for example in training + validation}) == 20


def test_class_folders_can_be_made_smaller(prepare: Callable, tmp_path: Path, folders: Path) -> None:
    assert prepare("--from-folder", str(folders), "--image-size", "16", "--shards", "1") == 0
    sizes = {(e["image/width"], e["image/height"]) for e in examples(tmp_path / "data" / "train")}
    assert {width for width, _ in sizes} == {16}
    assert all(tf.io.decode_jpeg(e["image/encoded"]).shape[1] == 16 for e in examples(tmp_path / "data" / "train"))


def test_bad_image_stops_by_name(prepare: Callable, tmp_path: Path, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "ant" / "notes.png").write_bytes(b"\x89PNG")
    assert prepare("--from-folder", str(folders)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{folders / 'ant' / 'notes.png'}: not a JPEG; remove it, or pass --on-bad-image skip" in error
    assert not list((tmp_path / "data").rglob("*.partial"))


def test_bad_images_are_skipped_named_and_counted_also_in_the_next_run(
    prepare: Callable, tmp_path: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "ant" / "notes.png").write_bytes(b"\x89PNG")
    (folders / "zebra" / "cut.jpg").write_bytes((folders / "zebra" / "3.jpg").read_bytes()[:200])
    arguments = ("--from-folder", str(folders), "--shards", "2")
    assert prepare(*arguments) == 2  # stops; what it says to try is then accepted in the same folder
    for _ in range(2):
        assert prepare(*arguments, "--on-bad-image", "skip") == 0
        err = capsys.readouterr().err
        assert f"left out {folders / 'ant' / 'notes.png'}: not a JPEG" in err
        assert f"left out {folders / 'zebra' / 'cut.jpg'}: a JPEG that can't be decoded" in err
        assert "left out 2 bad images in all" in err
    assert len(examples(tmp_path / "data" / "train") + examples(tmp_path / "data" / "validation")) == 20
    assert prepare(*arguments) == 2  # without the flag, what was left out stops it again


def test_a_changed_folder_is_not_mixed_with_the_old_one(
    prepare: Callable, tmp_path: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("--from-folder", str(folders)) == 0
    (folders / "ant" / "3.jpg").unlink()
    assert prepare("--from-folder", str(folders)) == 2
    assert "source_digest" in capsys.readouterr().err


def test_manifest_tells_what_was_made(prepare: Callable, tmp_path: Path) -> None:
    assert prepare(*SMALL) == 0
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["arguments"]["images"] == 24
    assert sum(shard["records"] for shard in manifest["shards"].values()) == 24
