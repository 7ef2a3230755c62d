from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.train.step_timer import EpochTiming, StepTimer, write_training_report

LINE = (
    r"hetero_tfdata: epoch (\d+): (\d+) steps, ([\d.]+) ms/step, input wait ([\d.]+) ms/step, input-bound ([\d.]+) %"
    r"(?:, ([\d.]+) images/s)?"
)


def slow_source(ms: float, elements: int = 100) -> tf.data.Dataset:
    """Float vectors, each of which takes that long to make, one after the other."""

    def make(number: int) -> int:
        time.sleep(ms / 1000)
        return number

    def wait(number: tf.Tensor) -> tf.Tensor:
        made = tf.ensure_shape(tf.numpy_function(make, [number], tf.int64), [])
        return tf.fill([4], tf.cast(made, tf.float32))

    return tf.data.Dataset.range(elements).map(wait)


def run_epochs(timer: StepTimer, source_ms: float, step_ms: float, *, epochs: int = 1, steps: int = 12) -> list[EpochTiming]:
    batches = iter(slow_source(source_ms).apply(timer.watch()))
    timings = []
    for _ in range(epochs):
        timer.start_epoch()
        for _ in range(steps):
            next(batches)
            time.sleep(step_ms / 1000)
            timer.step_end()
        timings.append(timer.end_epoch())
    return timings


def test_each_step_is_a_line_of_the_log(tmp_path: Path) -> None:
    from hetero_tfdata.emulate.timeline import read_steps

    timer = StepTimer(quiet=True, log=tmp_path / "hetero_tfdata" / "steps-0.csv")
    begin = time.time()
    run_epochs(timer, source_ms=0, step_ms=20, epochs=2, steps=5)
    steps = read_steps(tmp_path / "hetero_tfdata")
    assert len(steps) == 10
    assert all(begin <= step.time_s <= time.time() + 0.001 for step in steps)
    assert min(step.step_s for step in steps) >= 0.02


def small_model(steps_per_execution: int = 1) -> tf.keras.Model:
    """Gives 0 whatever comes, and learns nothing."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, kernel_initializer="zeros", input_shape=(4,))])
    model.compile(tf.keras.optimizers.SGD(0.0), loss="mse", steps_per_execution=steps_per_execution)
    return model


def scalars(folder: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for file in folder.rglob("events.out.tfevents.*"):
        for serialized in tf.data.TFRecordDataset(str(file)):
            for value in tf.compat.v1.Event.FromString(serialized.numpy()).summary.value:
                if value.HasField("tensor") and value.tensor.dtype == tf.float32.as_datatype_enum:
                    found.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    return found


# --- the figures ---


def test_slow_source_makes_the_run_input_bound() -> None:
    timing = run_epochs(StepTimer(quiet=True), source_ms=40, step_ms=5)[0]
    assert timing.input_bound_percent > 50
    assert 20 < timing.input_wait_ms < 60
    assert timing.input_wait_ms <= timing.step_ms


def test_fast_source_and_slow_step_is_not_input_bound() -> None:
    """The source works while the step does: what it costs is hidden, and must not be counted."""
    timing = run_epochs(StepTimer(quiet=True), source_ms=10, step_ms=40)[0]
    assert timing.input_bound_percent < 20
    assert 38 < timing.step_ms < 90


def test_only_the_waiting_that_is_left_counts() -> None:
    timing = run_epochs(StepTimer(quiet=True), source_ms=60, step_ms=30)[0]
    assert 30 < timing.input_bound_percent < 70  # 60 ms a step, of which about 30 are waited


def test_first_step_of_the_run_is_counted_but_not_timed() -> None:
    timer = StepTimer(quiet=True)
    batches = iter(slow_source(0).apply(timer.watch()))
    for _ in range(2):
        timer.start_epoch()
        for step in range(4):
            next(batches)
            time.sleep(0.5 if step == 0 and not timer.epochs else 0.005)
            timer.step_end()
        timer.end_epoch()
    assert [timing.steps for timing in timer.epochs] == [4, 4]
    assert timer.epochs[0].step_ms < 100
    assert timer.summary()["steps"] == 8
    assert timer.summary()["step_ms"] < 100


def test_a_single_step_is_better_than_no_figure() -> None:
    timer = StepTimer(quiet=True)
    assert run_epochs(timer, 0, 20, steps=1)[0].step_ms > 19


def test_time_between_epochs_does_not_count() -> None:
    timer = StepTimer(quiet=True)
    batches = iter(slow_source(0).apply(timer.watch()))
    for _ in range(2):
        timer.start_epoch()
        for _ in range(3):
            next(batches)
            timer.step_end()
        timer.end_epoch()
        time.sleep(0.5)  # an evaluation
    assert timer.epochs[1].step_ms < 100


def test_prints_one_line_an_epoch_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    timer = StepTimer(images_per_step=64)
    timing = run_epochs(timer, 0, 10, epochs=2, steps=3)[1]
    lines = capsys.readouterr().out.splitlines()
    assert [re.fullmatch(LINE, line).group(1, 2) for line in lines] == [("1", "3"), ("2", "3")]
    assert re.fullmatch(LINE, lines[1]).group(6) == f"{timing.images_per_s:.1f}"
    assert timing.images_per_s == pytest.approx(64_000 / timing.step_ms)
    run_epochs(StepTimer(quiet=True), 0, 0, steps=1)
    assert capsys.readouterr().out == ""


def test_line_reads_as_documented() -> None:
    assert str(EpochTiming(1, 12, 431.0, 12.3, 37.12)) == (
        "hetero_tfdata: epoch 1: 12 steps, 431.0 ms/step, input wait 12.3 ms/step, input-bound 2.9 %, 37.1 images/s"
    )
    assert str(EpochTiming(1, 12, 431.0, 12.3, None)).endswith("input-bound 2.9 %")


# --- the transformation ---


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.range(6),
        lambda: tf.data.Dataset.range(6).repeat(),
        lambda: tf.data.Dataset.range(6).filter(lambda n: n > 2),
        lambda: tf.data.Dataset.from_tensor_slices((tf.zeros([6, 3], tf.uint8), tf.zeros([6], tf.int64))).batch(4),
        lambda: tf.data.Dataset.from_tensor_slices({"a": tf.zeros([6, 3]), "b": {"c": tf.fill([6], "x")}}),
        lambda: tf.data.Dataset.from_tensors({"boxes": tf.ragged.constant([[1], [], [2, 3]]), "image": [0, 1, 2]}),
        lambda: tf.data.Dataset.from_tensor_slices((tf.range(3),)),
    ],
    ids=["scalar", "endless", "unknown cardinality", "tuple", "nested dict", "ragged", "one-tuple"],
)
def test_watch_changes_neither_spec_nor_cardinality_nor_elements(make: Callable[[], tf.data.Dataset]) -> None:
    dataset = make()
    watched = dataset.apply(StepTimer().watch())
    assert watched.element_spec == dataset.element_spec
    assert watched.cardinality() == dataset.cardinality()
    for expected, got in zip(dataset.take(5), watched.take(5), strict=True):
        for left, right in zip(tf.nest.flatten(expected, True), tf.nest.flatten(got, True), strict=True):
            tf.debugging.assert_equal(left, right)


def test_fit_without_watch_is_an_error() -> None:
    timer = StepTimer()
    with pytest.raises(ConfigurationError, match=r"saw no batch: .*dataset\.apply\(timer\.watch\(\)\)"):
        small_model().fit(slow_source(0).batch(2).map(lambda x: (x, x)), verbose=0, callbacks=[timer.keras_callback()])


def test_reading_ahead_of_the_watch_is_an_error() -> None:
    timer = StepTimer()
    batches = iter(slow_source(0).apply(timer.watch()).prefetch(5))
    timer.start_epoch()
    next(batches)
    time.sleep(0.5)
    with pytest.raises(ConfigurationError, match="something behind watch"):
        timer.step_end()


# --- Keras ---


def keras_source(source_ms: float) -> tf.data.Dataset:
    """Batches of one row whose target is the number of the step: the loss is its square."""
    return slow_source(source_ms).repeat().map(lambda x: (x, x[:1])).batch(1, drop_remainder=True)


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_fit_writes_logs_tensorboard_and_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps_per_execution: int
) -> None:
    timer = StepTimer(images_per_step=2)
    history = small_model(steps_per_execution).fit(
        keras_source(25).apply(timer.watch()),
        epochs=2,
        steps_per_epoch=12,
        verbose=0,
        callbacks=[timer.keras_callback(), tf.keras.callbacks.TensorBoard(str(tmp_path))],
    )
    assert [timing.epoch for timing in timer.epochs] == [1, 2]
    written = scalars(tmp_path)
    for name in ("step_ms", "input_wait_ms", "input_bound_percent"):
        assert history.history[name] == [getattr(timing, name) for timing in timer.epochs]
        assert written[f"epoch_{name}"] == pytest.approx(history.history[name])
    assert timer.epochs[1].input_bound_percent > 50, "in the first epoch TensorBoard opens its files"
    assert all(12 < timing.input_wait_ms < 50 for timing in timer.epochs)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("hetero_tfdata:")]
    assert [re.fullmatch(LINE, line).group(1, 2) for line in lines] == [("1", "12"), ("2", "12")]


def test_steps_alone_are_timed_where_a_strategy_reads_ahead(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    timer = StepTimer(images_per_step=2, times_input=False)
    history = small_model().fit(keras_source(1), epochs=1, steps_per_epoch=3, verbose=0, callbacks=[timer.keras_callback()])
    assert history.history["step_ms"] == [timer.epochs[0].step_ms]
    assert "input_wait_ms" not in history.history
    assert re.search(r"epoch 1: 3 steps, [\d.]+ ms/step, [\d.]+ images/s$", capsys.readouterr().out.strip())
    report = json.loads(write_training_report(tmp_path, timer, model="small", ranks=1).read_text())
    assert (report["steps"], report["input_wait_ms"], report["input_bound_percent"]) == (3, None, None)


def test_fit_that_computes_is_not_input_bound() -> None:
    timer = StepTimer(quiet=True)
    slow = tf.keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: time.sleep(0.04))
    small_model().fit(
        keras_source(8).apply(timer.watch()), steps_per_epoch=12, verbose=0, callbacks=[timer.keras_callback(), slow]
    )
    assert timer.epochs[0].input_bound_percent < 20
    assert timer.epochs[0].step_ms > 39


@pytest.mark.parametrize(("steps_per_execution", "first", "last"), [(1, (0, 1, 2), (5, 6, 7)), (4, range(4), range(4, 8))])
def test_losses_are_those_of_the_first_and_last_steps(
    steps_per_execution: int, first: tuple[int, ...], last: tuple[int, ...]
) -> None:
    """Not Keras's, which is a mean since the epoch began."""
    timer = StepTimer(quiet=True)
    assert timer.loss_first is None
    small_model(steps_per_execution).fit(
        keras_source(0).apply(timer.watch()), epochs=2, steps_per_epoch=4, verbose=0, callbacks=[timer.keras_callback()]
    )
    assert timer.loss_first == pytest.approx(sum(n * n for n in first) / len(first))
    assert timer.loss_last == pytest.approx(sum(n * n for n in last) / len(last))


def test_resumed_fit_numbers_its_epochs_on() -> None:
    timer = StepTimer(quiet=True)
    dataset = keras_source(0).apply(timer.watch())
    small_model().fit(dataset, initial_epoch=3, epochs=5, steps_per_epoch=2, verbose=0, callbacks=[timer.keras_callback()])
    assert [timing.epoch for timing in timer.epochs] == [4, 5]


# --- the report ---


def test_report_holds_the_run(tmp_path: Path) -> None:
    timer = StepTimer(images_per_step=8, quiet=True)
    run_epochs(timer, 0, 5, epochs=2, steps=4)
    path = write_training_report(tmp_path, timer, model="tiny", ranks=2, weights="abc")
    assert path == tmp_path / "hetero_tfdata" / "training.json"
    assert [file.name for file in path.parent.iterdir()] == ["training.json"]
    report = json.loads(path.read_text())
    epochs = report.pop("epochs")
    assert [(epoch["epoch"], epoch["steps"]) for epoch in epochs] == [(1, 4), (2, 4)]
    assert report == {
        "model": "tiny",
        "ranks": 2,
        **timer.summary(),
        "loss_first": None,
        "loss_last": None,
        "weights": "abc",
    }
    assert report["steps"] == 8
    assert report["images_per_s"] == pytest.approx(8000 / report["step_ms"])
