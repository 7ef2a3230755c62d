"""The training script as it is started: real processes, real ranks."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from support import clean_environment, wait_for

pytest.importorskip("horovod")

TINY = ("--model", "tiny", "--image-size", "32", "--batch-size", "16", "--warmup-epochs", "1")
RANKS = (str(Path(sys.executable).with_name("horovodrun")), "--gloo", "-np", "2", "-H", "localhost:2")


def run(command: list[str], timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
    environment = clean_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)


@pytest.fixture
def train(resnet50: SimpleNamespace, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def start(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, str(resnet50.folder / "train.py")]
        return run([*launcher, *script, "--output-data-dir", str(tmp_path / "out"), *TINY, *arguments])

    return start


def test_one_process_then_two_ranks_that_resume_learn_and_end_with_equal_weights(
    train: Callable, photographs: Path, tmp_path: Path
) -> None:
    """With the accelerator's flags as SageMaker passes them; the checkpoint is there for both ranks, one restores it."""
    flags = ("--mixed-precision", "True", "--xla", "True", "--model_dir", "s3://bucket/job/model", "--decay-epochs", "50,60")
    schedule = ("--train", str(photographs / "train"), "--steps-per-epoch", "12", "--learning-rate", "0.05", "--seed", "3")
    reports = tmp_path / "out" / "hetero_tfdata" / "training.json"

    alone = train(*flags, *schedule, "--epochs", "1")
    assert alone.returncode == 0, alone.stderr
    first = json.loads(reports.read_text())
    assert (first["model"], first["ranks"], first["steps"]) == ("tiny", 1, 12)
    assert "val_loss" not in alone.stdout  # no such channel
    assert "1 rank, 12 steps of 16 images" in alone.stdout

    validation = ("--validation", str(photographs / "validation"))
    two = train(*flags, *schedule, *validation, "--epochs", "3", launcher=RANKS)
    assert two.returncode == 0, two.stdout + two.stderr
    report = json.loads(reports.read_text())
    assert (report["model"], report["ranks"], report["steps"]) == ("tiny", 2, 24)
    assert report["weights"]["equal_on_ranks"] == 2  # or check_equal_weights had failed the run
    assert report["images_per_s"] == pytest.approx(32_000 / report["step_ms"])
    assert 0 <= report["input_wait_ms"] <= report["step_ms"]
    assert "2 ranks with equal weights, 24 steps of 32 images" in two.stdout
    # it went on where one process stopped, and learned
    assert two.stdout.count("resuming after epoch 1 from ") == 1
    assert [epoch["epoch"] for epoch in report["epochs"]] == [2, 3]
    assert report["loss_first"] < first["loss_first"]
    assert report["loss_last"] < 0.6 * first["loss_first"]
    # rank 0 alone speaks and evaluates
    assert two.stdout.count("val_accuracy") == 2
    assert two.stdout.count("hetero_tfdata: epoch 2: 12 steps") == 1
    # the optimizer's state came back too: 12 steps of one process, then 24
    checkpoint = tf.train.latest_checkpoint(tmp_path / "out" / "checkpoints")
    shapes = dict(tf.train.list_variables(checkpoint))
    (iterations,) = (name for name in shapes if "_iterations" in name)
    assert tf.train.load_variable(checkpoint, iterations) == 36
    assert sum("optimizer" in name and len(shape) == 4 for name, shape in shapes.items()) == 2  # the convolutions' momentum

    model = tf.keras.models.load_model(tmp_path / "out" / "model" / "1", compile=False)  # no Horovod is loaded here
    assert model.predict(tf.zeros([3, 32, 32, 3], tf.uint8), verbose=0).sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-3)
    assert model.get_layer("conv1").compute_dtype == "float16"
    assert model.get_layer("probabilities").compute_dtype == "float32"

    done = train(*flags, *schedule, "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert "all 3 epochs are in" in done.stdout
    assert json.loads(reports.read_text()) == report


def test_a_stopped_run_writes_a_checkpoint_and_the_next_goes_on_from_it(
    resnet50: SimpleNamespace, photographs: Path, tmp_path: Path
) -> None:
    script = [sys.executable, str(resnet50.folder / "train.py"), "--output-data-dir", str(tmp_path / "out"), *TINY]
    schedule = ["--train", str(photographs / "train"), "--learning-rate", "0.05"]
    said = tmp_path / "log"
    with said.open("w") as log:
        first = subprocess.Popen(
            [*script, *schedule, "--epochs", "2", "--steps-per-epoch", "100000"],
            env=clean_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    steps = tmp_path / "out" / "hetero_tfdata" / "steps-0.csv"
    wait_for(lambda: steps.exists() and len(steps.read_text().splitlines()) > 20, 120, "some steps")
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 143, said.read_text()
    assert re.search(r"stopped \(SIGTERM\) in epoch 1, after its step \d+: checkpoint written", said.read_text())
    second = run([*script, *schedule, "--epochs", "1", "--steps-per-epoch", "3"])
    assert second.returncode == 0, second.stderr
    assert "resuming after epoch 0 from " in second.stdout
    before, after = sorted((tmp_path / "out" / "checkpoints").glob("*.index"))
    iterations = [tf.train.load_variable(str(file.with_suffix("")), _iterations(file)) for file in (before, after)]
    assert iterations[0] > 20
    assert iterations[1] == iterations[0] + 3


def _iterations(checkpoint: Path) -> str:
    return next(name for name, _ in tf.train.list_variables(str(checkpoint.with_suffix(""))) if "_iterations" in name)


def test_bad_record_ends_the_script_in_one_line(train: Callable, damaged: Callable, photographs: Path) -> None:
    folder = damaged("train", 1, lambda data: data[:-50])
    shutil.copy(photographs / "train" / "labels.txt", folder)
    result = train("--train", str(folder), "--epochs", "1", "--steps-per-epoch", "30")
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"train.py: bad record: {folder}/train-00001-of-00004.tfrecord at byte ")
    assert last.endswith("pass --on-bad-record skip to go on without such records")
    assert "Traceback" not in result.stderr
    assert not (folder / "out" / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--train: expected a folder of TFRecords, got none, and there is no $SM_CHANNEL_TRAIN either"),
        (["--train", "/nowhere"], "--train: expected a folder of TFRecords, '/nowhere' is none"),
        (["--train", "/tmp", "--validation", "/nowhere"], "--validation: expected a folder of TFRecords, '/nowhere'"),
        (["--train", "/tmp", "--batch-size", "0"], "--batch-size: expected at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_one_line(
    resnet50: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert resnet50.train.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_hyperparameters_are_read_as_sagemaker_writes_them(
    resnet50: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(tmp_path))
    monkeypatch.setenv("SM_MODEL_DIR", "/opt/ml/model")
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", str(tmp_path / "output"))
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    parse = resnet50.train.parse
    options = parse(["--xla", "False", "--mixed-precision", "--decay-epochs", "60,30", "--model_dir", "s3://x"])
    assert (options.xla, options.mixed_precision, options.decay_epochs) == (False, True, [30, 60])
    assert (options.train, options.validation, options.model_dir) == (str(tmp_path), None, "/opt/ml/model")
    assert options.checkpoint_dir == str(tmp_path / "output" / "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    assert parse([]).checkpoint_dir == str(tmp_path / "checkpoints")


def test_resnet50_starts_as_published(resnet50: SimpleNamespace) -> None:
    """Blocks that begin as the identity, batch norm over tens of batches, an even guess over the classes at first."""
    model = resnet50.model.build_model("resnet50", image_size=32, classes=8)
    assert model.count_params() == 23_587_712 + 8 * 2048 + 8
    norms = [layer for layer in model.get_layer("resnet50").layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.9}
    assert sum(not layer.gamma.numpy().any() for layer in norms) == 16
    assert model.input.dtype == tf.uint8
    images = tf.cast(tf.random.uniform([2, 32, 32, 3], 0, 256, tf.int32, seed=1), tf.uint8)
    assert model(images, training=True).numpy().sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
