"""measure: what a graph costs, stage by stage, and the profile that plan reads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from hetero_tfdata.cli import main
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan.measure import _Counted, measure, measure_step
from hetero_tfdata.plan.profile import Profile, StageCost
from hetero_tfdata.service.chunks import batch_rows, has_batches

GRAPHS = """
import tensorflow as tf

def burn(times):
    def function(image, label):
        noise = tf.random.uniform([64, 64])
        for _ in range(times):
            noise = tf.linalg.matmul(noise, noise) / 64.0
        return image + tf.cast(noise[0, 0] * 0.0, tf.uint8), label
    return function

def images():
    return tf.data.Dataset.from_tensor_slices((tf.zeros([512, 8, 8, 3], tf.uint8), tf.range(512)))

def cheap(image, label):
    return burn(2)(image, label)

def dear(image, label):
    return burn(40)(image, label)

def make_dataset():
    return images().shuffle(100).map(cheap).map(dear, num_parallel_calls=tf.data.AUTOTUNE).batch(32).prefetch(2)

def step(batch):
    return tf.reduce_sum(tf.cast(batch[0], tf.float32))

def empty():
    return images().filter(lambda image, label: label < 0).batch(4)

def breaks(batch):
    raise ValueError("no such layer")
"""


@pytest.fixture
def graphs(tmp_path, monkeypatch):
    (tmp_path / "graphs_to_measure.py").write_text(GRAPHS)
    monkeypatch.chdir(tmp_path)
    return "graphs_to_measure"


def test_a_graph_is_measured_and_planned_with(graphs, tmp_path, capsys):
    assert main(["measure", f"{graphs}:make_dataset", "--step", f"{graphs}:step", "--seconds", "2"]) == 0
    said = capsys.readouterr().out
    assert "Most of it is map(dear)" in said
    profile = Profile.read(tmp_path / "profile.json")
    names = [stage.stage for stage in profile.stages]
    assert [name.partition("(")[0] for name in names] == ["from_tensor_slices", "shuffle", "map", "map", "batch", "prefetch"]
    assert sum(stage.share for stage in profile.stages) == pytest.approx(1.0)
    assert sum(stage.cpu_ms_per_sample for stage in profile.stages) == pytest.approx(profile.cpu_ms_per_sample)
    assert profile.wire_bytes_per_sample == 8 * 8 * 3 + 4
    assert profile.float32_bytes_per_sample == 0
    assert (profile.batch_size, profile.dataset) == (32, f"{graphs}:make_dataset")
    assert profile.accelerator_ms_per_step > 0
    arguments = ["--train-instance", "ml.p4d.24xlarge", "--data-instance", "ml.c5.18xlarge", "--global-batch-size", "8192"]
    assert main(["plan", "--profile", "profile.json", *arguments, "--accelerator-ms-per-step", "0.01", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["options"][0]["step_ms"] == pytest.approx(8192 * profile.cpu_ms_per_sample / 96)
    assert "map(dear) is " in told["advice"]
    assert any("profile.json" in one for one in told["assumptions"])


def test_a_profile_of_another_graph_is_refused(graphs, tmp_path, capsys):
    assert main(["measure", f"{graphs}:make_dataset", "--seconds", "1"]) == 0
    plan = ["plan", "--profile", "profile.json", "--train-instance", "ml.p4d.24xlarge", "--data-instance", "ml.c5.18xlarge"]
    plan += ["--global-batch-size", "8192", "--accelerator-ms-per-step", "64", "--graph"]
    assert main([*plan, f"{graphs}:make_dataset"]) == 0
    capsys.readouterr()
    assert main([*plan, f"{graphs}:images"]) == 2
    told = capsys.readouterr().err
    assert "--profile profile.json: it is of" in told
    assert told.count("\n") == 1


def test_single_samples_and_what_changes_their_number_are_measured_too():
    records = (
        tf.data.Dataset.range(4).flat_map(lambda i: tf.data.Dataset.range(100)).map(lambda i: tf.sin(tf.cast(i, tf.float32)))
    )
    profile = measure(records, "records", seconds=1.0, log=lambda line: None)
    assert profile.stages[0].stage.startswith("up to flat_map(")
    assert profile.wire_bytes_per_sample == 4
    assert 0 < profile.cpus_busy <= 1.2


def test_what_a_graph_leaves_idle_at_full_speed_counts_but_a_fifth_at_most(monkeypatch):
    """So that plan's step without data hosts is the one that this machine would take."""
    costs = iter([(3.0, 600.0, 0.9), (3.0, 600.0, 0.5), (3.0, 600.0, 1.05)])  # CPU-ms, samples a second, CPUs busy
    monkeypatch.setattr("hetero_tfdata.plan.measure._cost", lambda *arguments: next(costs))
    monkeypatch.setattr("hetero_tfdata.plan.measure._stages", lambda *arguments: (StageCost("map(f)", 3.0, 1.0),))
    found = [measure(tf.data.Dataset.range(8).batch(4), "few", seconds=1.0, log=lambda line: None) for _ in range(3)]
    assert [profile.cpu_ms_per_sample for profile in found] == pytest.approx([3.0 / 0.9, 3.0 / 0.8, 3.0])
    assert [profile.stages[0].cpu_ms_per_sample for profile in found] == pytest.approx([3.0 / 0.9, 3.0 / 0.8, 3.0])


def test_ragged_batches_weigh_what_is_in_them():
    ragged = tf.data.Dataset.range(64).map(lambda i: tf.range(i % 2 + 1)).apply(tf.data.experimental.dense_to_ragged_batch(8))
    profile = measure(ragged, "ragged", seconds=1.0, log=lambda line: None)
    assert profile.wire_bytes_per_sample == pytest.approx(1.5 * 8 + 9 * 8 / 8)


def test_batches_whose_size_their_functions_hide_are_counted_by_their_rows():
    ragged = tf.data.Dataset.range(64).map(lambda i: (tf.zeros([8], tf.uint8), tf.range(i % 2 + 1))).ragged_batch(4)
    hidden = ragged.map(lambda images, boxes: (images, boxes * 2)).prefetch(1)
    assert batch_rows(hidden) is None
    assert measure(hidden, "hidden", seconds=1.0, log=lambda line: None).wire_bytes_per_sample == pytest.approx(8 + 12 + 10)
    assert not has_batches(tf.data.Dataset.range(64).batch(8).map(tf.reduce_sum))


def test_batches_that_a_function_makes_count_as_many_as_they_are_said_to():
    def batch(seed):
        return tf.zeros([16, 8], tf.uint8), tf.range(16) + tf.cast(tf.reduce_sum(seed), tf.int32)

    lines = []
    unsaid = measure(tf.data.Dataset.range(64).map(batch), "made", seconds=1.0, log=lines.append)
    assert [line for line in lines if "say --samples-per-element 16" in line]
    assert unsaid.wire_bytes_per_sample == 16 * 12
    lines.clear()
    made = tf.data.Dataset.range(64).batch(2).map(batch)
    said = measure(made, "made", seconds=1.0, samples_per_element=16, log=lines.append)
    assert not [line for line in lines if "--samples-per-element" in line]
    assert said.wire_bytes_per_sample == 12
    whole = _Counted(made, 16)
    below = whole.below(made._inputs()[0]._inputs()[0])
    assert below.per_element == 8  # range(): two of its elements make one batch
    assert float(next(iter(whole.numbers()))) == 16
    assert float(next(iter(below.numbers()))) == 8


def test_pictures_are_no_batches():
    lines = []
    measure(tf.data.Dataset.range(99).map(lambda i: (tf.zeros([8, 8, 3]), i)), "pictures", seconds=1.0, log=lines.append)
    assert not [line for line in lines if "--samples-per-element" in line]


def test_a_step_is_waited_for():
    assert measure_step(lambda batch: tf.reduce_sum(batch), tf.constant(np.ones(9)), seconds=1.0) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{0}:empty", "--seconds", "1"], "the dataset gives no samples"),
        (["{0}:nothing"], "expected a function nothing in"),
        (["{0}:make_dataset", "--seconds", "0"], "--seconds: expected 1 to 3600, got 0"),
        (["{0}:make_dataset", "--samples-per-element", "0"], "--samples-per-element: expected at least 1, got 0"),
        (["{0}:make_dataset", "--output", "no/such/profile.json"], "there is no folder no/such"),
        (
            ["{0}:make_dataset", "--seconds", "1", "--step", "{0}:breaks"],
            "calling it with a batch failed: ValueError: no such layer",
        ),
    ],
)
def test_what_can_not_be_measured_is_one_line(graphs, capsys, arguments, said):
    assert main(["measure", *(word.format(graphs) for word in arguments)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1}', "[" * 10_000, '{"format": 7, "stages": []}'])
def test_a_file_that_is_no_profile_is_named(tmp_path, text):
    file = tmp_path / "profile.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="expected a file that `hetero-tfdata measure` wrote"):
        Profile.read(file)
