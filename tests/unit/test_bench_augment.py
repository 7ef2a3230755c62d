"""The benchmarks' arithmetic, and that the peers do what they are said to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from augmentation import imagenet, measure, memory, published, randaugment, report, workloads

        yield SimpleNamespace(**{module.__name__.rpartition(".")[2]: module for module in (
            imagenet, measure, memory, published, randaugment, report, workloads
        )})  # fmt: skip
    finally:
        sys.path.remove(str(BENCHMARKS))


def turns(bench: SimpleNamespace, *cpu_s: float) -> list:
    return [bench.measure.Turn(images=100, cpu_s=seconds, wall_s=seconds / 2, peak_kib=0) for seconds in cpu_s]


def test_a_ratio_is_the_median_of_the_rounds_own_ratios(bench):
    ours, theirs = turns(bench, 1.0, 1.0, 5.0), turns(bench, 2.0, 3.0, 5.0)
    # of medians it would be 3
    assert bench.measure.ratio(ours, theirs) == {"per_cpu_s": 2.0, "min": 1.0, "max": 3.0, "per_s": 2.0}


def test_ratio_refuses_rounds_without_a_partner(bench):
    with pytest.raises(ValueError, match="shorter"):
        bench.measure.ratio(turns(bench, 1.0, 1.0), turns(bench, 1.0))


def test_rates_are_medians_with_their_extremes(bench):
    assert bench.measure.rates(turns(bench, 1.0, 2.0, 4.0)) == {
        "images_per_cpu_s": 50.0,
        "images_per_cpu_s_min": 25.0,
        "images_per_cpu_s_max": 100.0,
        "images_per_s": 100.0,
    }


def test_vcpus_are_whole_and_enough(bench):
    assert bench.report.vcpus(17_400, 1_000) == 18
    assert bench.report.vcpus(7_000, 1_000) == 7


def test_a_table_is_as_wide_as_its_cells(bench):
    text = bench.report.table(["", "images"], [["a long label", "1,000"], ["b", "7"]])
    assert text.splitlines() == ["              images", "a long label   1,000", "b                  7"]


def test_memory_tells_what_grows_with_a_batch_from_what_does_not(bench):
    mib = 1024  # KiB
    # 50 MiB once and 3 batches, of images of 1 MiB, above an input that grows too
    figures = bench.memory.batches_above_input(
        [(150 + 3 * 10) * mib, (190 + 3 * 40) * mib], [100 * mib, 140 * mib], [10, 40], 2**20
    )
    assert figures == pytest.approx({"batches": 3.0, "fixed_mib": 50.0, "at_larger": (50 + 3 * 40) / 40})


def test_a_contender_takes_turns_and_is_stopped_between_them(bench, tmp_path):
    script = (
        "from augmentation.turns import serve, take_pipe\n"
        "replies = take_pipe()\n"
        "print('noise of a library')\n"
        "serve(replies, lambda: sum(range(100_000)) and 7, dtype='uint8')\n"
    )
    process = bench.measure.Process(
        bench.measure.Contender("busy", "", 2, ("-c", script)), Path(sys.executable), tmp_path / "log"
    )
    try:
        assert process.wait_ready() == {"ready": True, "dtype": "uint8"}
        turn = process.turn(20)
        assert turn.images == 140
        assert 0 < turn.cpu_s <= 1.5 * turn.wall_s
        assert turn.peak_kib > 1000
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "T"
        assert process.turn(1).images == 7
    finally:
        process.end()
    assert "noise of a library" in (tmp_path / "log").read_text()


def test_a_contender_that_ends_is_named_with_its_last_words(bench, tmp_path):
    contender = bench.measure.Contender("broken", "", 1, ("-c", "raise SystemExit('no such preset')"))
    process = bench.measure.Process(contender, Path(sys.executable), tmp_path / "log")
    try:
        with pytest.raises(bench.measure.ProcessFailed, match=r"broken ended; .*: no such preset"):
            process.wait_ready()
    finally:
        process.end()


def test_a_contender_that_keeps_silent_is_not_waited_for_without_end(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench.measure, "START_S", 0.2)
    contender = bench.measure.Contender("silent", "", 1, ("-c", "import time; time.sleep(60)"))
    process = bench.measure.Process(contender, Path(sys.executable), tmp_path / "log")
    try:
        with pytest.raises(bench.measure.ProcessFailed, match=r"silent said nothing for 0\.2 s"):
            process.wait_ready()
    finally:
        process.end()


def test_comparisons_name_contenders_and_dali_can_be_left_out(bench):
    for workload in bench.workloads.all_workloads(Path("photographs")):
        for one in (workload, workload.without_dali()):
            names = [contender.name for contender in one.contenders]
            assert len(set(names)) == len(names)
            assert all(ours in names and ours.startswith("ours") and theirs in names for ours, theirs in one.comparisons)
        assert not any(contender.dali for contender in workload.without_dali().contenders)


def test_the_published_deterministic_part_is_a_dilation_a_blur_and_a_scale(bench):
    pytest.importorskip("tensorflow_addons")
    image = np.zeros([32, 32, 3], np.uint8)
    image[10, 20, 1] = 255
    result = bench.published.blurred_dilation(tf.constant(image)).numpy()
    assert result.shape == (32, 32, 3)
    assert result.dtype == np.float32
    bell = np.exp(-0.5 * (np.arange(-5, 6) / 0.8) ** 2)
    down, across = (np.convolve(abs(np.arange(32) - centre) <= 1, bell / bell.sum(), "same") for centre in (10, 20))
    np.testing.assert_allclose(result[..., 1], np.outer(down, across), atol=1e-4)
    assert not result[..., [0, 2]].any()


def test_the_references_transforms_keep_shape_and_dtype_and_change_the_image(bench):
    pytest.importorskip("tensorflow_addons")
    image = tf.constant(np.random.default_rng(0).integers(20, 256, (24, 24, 3), dtype=np.uint8))
    transforms = bench.randaugment.transforms(0.9)
    assert len(transforms) == 14
    for name, transform in transforms.items():
        result = transform(image)
        assert (result.dtype, result.shape) == (image.dtype, image.shape), name
        assert (result.numpy() != image.numpy()).mean() > 0.05, name


@pytest.mark.parametrize(("even", "low", "high"), [("area", 0.41, 0.48), ("height", 0.31, 0.39)])
def test_crops_of_the_common_graph_have_the_area_that_is_said(bench, even, low, high):
    jpeg = tf.io.encode_jpeg(tf.zeros([375, 500, 3], tf.uint8))
    # no seed repeats TensorFlow's own sampler: as many as make the mean certain (0.37 +- 0.005)
    windows = np.stack([bench.imagenet.window(jpeg, even).numpy() for _ in range(3000)])
    top, left, height, width = windows.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 375).all()
    assert (left + width <= 500).all()
    shares = height * width / (375 * 500)
    assert shares.min() >= 0.07
    assert low < shares.mean() < high
