"""What the preflight says of a dataset, without servers; tests/cluster/test_preflight_servers.py shows that it is so."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hetero_tfdata import Cluster, cli, distribute, errors
from hetero_tfdata.cluster.topology import Host, InstanceGroup, Role
from hetero_tfdata.launch.job import Job as LaunchedJob
from hetero_tfdata.service import preflight
from hetero_tfdata.service.preflight import Finding, Job, refusals
from hetero_tfdata.service.preflight import memory as memory_rules
from hetero_tfdata.service.preflight.meanings import _DIVIDES
from hetero_tfdata.service.supervisor import usable_cpus, worker_count
from support import addons_library, clean_environment, free_blocks

tf = pytest.importorskip("tensorflow")
Dataset = tf.data.Dataset
README = (Path(__file__).parents[2] / "README.md").read_text()


def found(dataset, **job) -> dict[str, Finding]:
    return {finding.code: finding for finding in preflight.inspect(dataset, Job(**job))}


def slow_image(x):
    return tf.zeros([100, 100, 3]) + tf.cast(x, tf.float32)


def generate():
    yield 1


def generated():
    return Dataset.from_generator(generate, output_signature=tf.TensorSpec([], tf.int64))


FILES = ["a", "b", "c", "d"]
SILENT = {
    "what everybody does": lambda: (
        Dataset.from_tensor_slices(FILES)
        .shuffle(4)
        .repeat()
        .interleave(tf.data.TFRecordDataset)
        .map(tf.strings.length)
        .batch(8, drop_remainder=True)
        .prefetch(2)
    ),
    "take and skip of nothing": lambda: Dataset.range(9).take(-1).skip(0),
    "counted by file": lambda: Dataset.from_tensor_slices(FILES).interleave(
        lambda f: tf.data.TextLineDataset(f).enumerate().skip(1).take(3)
    ),
    "no seed": lambda: Dataset.range(9).shuffle(9).map(lambda x: tf.random.uniform([]) + tf.random.normal([])),
    "stateless seed": lambda: Dataset.range(9).map(lambda x: tf.random.stateless_uniform([], [1, x])),
    "seeded order of an endless pass": lambda: Dataset.range(9).shuffle(9, seed=3).repeat(),
    "mixture": lambda: Dataset.sample_from_datasets([Dataset.range(3), Dataset.range(3)], [0.5, 0.5], seed=1),
    "cache that is repeated": lambda: Dataset.range(9).cache().repeat(),
    "captured dataset": lambda: (lambda inner: Dataset.range(9).flat_map(lambda x: inner))(Dataset.range(9).take(2)),
}


@pytest.fixture(autouse=True)
def _no_seed_of_another_test():
    tf.random.set_seed(None)


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_said_without_need(name):
    said = found(SILENT[name](), workers=4, memory_bytes=10**9)
    if name == "what everybody does" and tf.__version__.split(".")[:2] not in _DIVIDES:
        assert list(said) == ["interleave-doubles"], "what this TensorFlow does with shuffle() before interleave()"
        return
    assert said == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dataset.range(9).take(3).skip(1).shard(2, 0),
        lambda: Dataset.range(9).enumerate(),
        lambda: Dataset.zip((Dataset.range(9), Dataset.range(9).map(lambda x: x))),
        lambda: Dataset.range(9).batch(4, drop_remainder=True),
        lambda: Dataset.range(9).window(2).flat_map(lambda w: w.batch(2)),
        lambda: Dataset.range(9).snapshot("nowhere"),
        lambda: tf.data.TextLineDataset(["one"]).map(tf.strings.length),
    ],
)
def test_what_is_not_split_keeps_its_meaning(make):
    assert found(make())
    assert found(make(), processing_mode="off") == {}


def test_a_finding_names_the_call_its_meaning_and_the_way_out():
    finding = found(Dataset.range(60).take(10), workers=4)["take-per-worker"]
    assert str(finding) == (
        "take-per-worker: take(10): each of the 4 workers takes 10 of its own part: up to 10 times the number of workers come. "
        "Instead: take after distribute(); or choose the files, before the dataset is made"
    )
    assert not finding.refused


@pytest.mark.parametrize(
    ("make", "operation"),
    [
        (lambda counted: counted.enumerate(), "enumerate()"),
        (lambda counted: Dataset.zip((counted, Dataset.counter())), "zip() with a counter"),
        (lambda counted: Dataset.zip((counted, (Dataset.counter(), Dataset.counter(5)))), "zip() with a counter"),
        (lambda counted: Dataset.zip((Dataset.counter().map(lambda x: -x).prefetch(1), counted)), "zip() with a counter"),
    ],
)
def test_counters(make, operation):
    findings = found(make(Dataset.from_tensor_slices(FILES)))
    assert list(findings) == ["counter-per-worker"]
    assert findings["counter-per-worker"].operation == operation


def test_a_state_per_worker_that_is_meant():
    def count_per_worker(state, x):
        return state + 1, x

    def count(state, x):
        return state + 1, x

    assert "say so in the function's name" in found(Dataset.range(9).scan(np.int64(0), count))["scan-per-worker"].way_out
    assert found(Dataset.range(9).scan(np.int64(0), count_per_worker)) == {}


def test_choices_made_by_order():
    chosen = Dataset.choose_from_datasets([Dataset.range(3), Dataset.range(3)], Dataset.range(2).repeat())
    assert list(found(chosen)) == ["choice-per-worker"]


def test_seeds_are_named_with_the_function_that_draws():
    def noisy(x):
        return tf.image.random_brightness(slow_image(x), 0.1, seed=3) + tf.random.normal([], seed=4)

    finding = found(Dataset.range(9).map(noisy).repeat(), processing_mode="off")["fixed-seed"]
    assert finding.operation == "map(noisy) (RandomStandardNormal, RandomUniform)"
    assert finding.meaning == "each worker delivers the same elements in the same order with the same augmentation"
    finite = found(Dataset.range(9).map(noisy))["fixed-seed"]
    assert finite.meaning.endswith("each for its own part, and every pass that begins anew at distribute() draws them again")


def test_a_graph_level_seed_counts_as_one():
    tf.random.set_seed(5)
    try:
        dataset = Dataset.range(9).shuffle(9).map(lambda x: tf.random.uniform([]))
    finally:
        tf.random.set_seed(None)
    assert "fixed-seed" not in found(Dataset.range(9).shuffle(9), processing_mode="off"), "the seed is gone again"
    assert found(dataset, processing_mode="off")["fixed-seed"].operation == "shuffle(9, seed), map(lambda) (RandomUniform)"


def test_state_that_workers_have_copies_of():
    variable = tf.Variable(0, dtype=tf.int64)
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)

    def counts(x):
        variable.assign_add(1)
        return x

    def remembers(x):
        table.insert(x, x)
        return x

    assert list(found(Dataset.range(9).map(counts))) == ["variable-per-worker"]
    assert list(found(Dataset.range(9).map(remembers))) == ["table-per-worker"]
    assert list(found(Dataset.range(9).map(lambda x: x * variable))) == ["variable-copied"]


def test_fewer_files_than_workers():
    def lines(files):
        return Dataset.from_tensor_slices(files).interleave(tf.data.TextLineDataset)

    finding = found(lines(["a"]))["few-sources"]
    assert finding.operation == "from_tensor_slices() of 1 element"
    assert "one worker gets all the work, any others none" in finding.meaning
    assert "2 workers get all the work, 6 of 8 none" in found(lines(["a", "b"]), workers=8)["few-sources"].meaning
    assert found(lines(FILES), workers=4) == {}
    assert found(lines(["a"]).repeat()) == {}, "the others are on the next pass already"
    numbered = Dataset.range(3).interleave(lambda number: Dataset.from_tensors(number).repeat(5))
    assert found(numbered, workers=4)["few-sources"].operation == "Dataset.range() of 3 elements"
    assert found(numbered, workers=3) == {}
    assert found(Dataset.range(tf.int64.max).interleave(lambda number: Dataset.range(5)), workers=4) == {}


def test_ranges_of_all_kinds():
    limit = tf.int64.max
    for bounds, endless in [((5,), False), ((9, 0, -2), False), ((0, 0), False), ((-5, limit), True), ((3, limit), True)]:
        remainder = found(Dataset.range(*bounds).batch(2, drop_remainder=True))
        assert ("remainder-per-worker" not in remainder) == endless, bounds


def test_remainders_of_a_pass_that_ends():
    batches = Dataset.range(9).batch(4, drop_remainder=True)
    assert "up to 3 in each pass" in found(batches)["remainder-per-worker"].meaning
    assert found(Dataset.range(9).repeat().batch(4, drop_remainder=True)) == {}
    assert "remainder-per-worker" in found(Dataset.range(9).repeat().take(90).batch(4, drop_remainder=True))
    # a counter never ends, what is zipped with it does
    assert "remainder-per-worker" in found(Dataset.zip((Dataset.range(9), Dataset.counter())).batch(4, drop_remainder=True))
    lines = Dataset.from_tensor_slices(FILES).interleave(tf.data.TextLineDataset)
    assert found(lines.repeat().batch(4, drop_remainder=True)) == {}
    assert "remainder-per-worker" in found(lines.batch(4, drop_remainder=True))


def test_a_dataset_chained_in_a_loop():
    """More stages than Python has frames."""
    dataset = Dataset.range(1)
    for _ in range(1100):
        dataset = dataset.concatenate(Dataset.range(1))
    assert list(found(dataset.take(5))) == ["take-per-worker"]


# --- memory ---


def test_buffers_and_caches_times_workers_against_the_memory():
    images = Dataset.range(1000).map(slow_image)  # 120 kB each
    shuffled = images.shuffle(500).cache().repeat()
    job = {"workers": 8, "workers_per_host": 4, "memory_bytes": 200_000_000}
    finding = found(shuffled, **job)["memory"]
    # each of 8 workers has 125 of the images, twice; 4 of them share the host
    assert finding.operation == "shuffle(500) 15 MB, cache() 15 MB"
    assert finding.meaning.startswith("each worker process has its own: 120 MB for 4 on a host; this host has 200 MB")
    assert found(shuffled, **{**job, "memory_bytes": 300_000_000}) == {}
    assert found(shuffled, **{**job, "memory_bytes": None}) == {}
    assert "memory" in found(images.repeat().shuffle(500), **job), "of an endless dataset the whole buffer"


@pytest.mark.parametrize(
    ("kind", "host", "workers_per_host", "memory_bytes"),
    [
        ("ml.c5.18xlarge", "an ml.c5.18xlarge", 8, 144 * 2**30),
        ("ml.unheard.of", "this host", worker_count(usable_cpus()), preflight.host_memory_bytes()),
    ],
)
def test_a_data_host_has_what_its_instance_type_has(kind, host, workers_per_host, memory_bytes):
    groups = (
        InstanceGroup("data_group", kind, ("algo-1", "algo-2"), Role.DATA),
        InstanceGroup("dnn_group", "ml.p4d.24xlarge", ("algo-3",), Role.TRAINING),
    )
    hosts = tuple(Host(f"algo-{number}", "127.0.0.1", 18100 + 100 * number) for number in (1, 2, 3))
    job = Job.of(Cluster(groups, hosts, "algo-3"), "dynamic", own_workers=True)
    assert (job.workers, job.host, job.workers_per_host, job.memory_bytes) == (2, host, workers_per_host, memory_bytes)
    asked = Job.of(Cluster(groups, hosts, "algo-3"), "dynamic", own_workers=True, workers_per_host=12)
    assert (asked.workers, asked.workers_per_host) == (24, 12)


def test_coordinated_reads_need_a_dataset_without_an_end():
    finding = found(Dataset.range(8).batch(2), coordinated=True)["coordinated-end"]
    assert finding.refused
    assert "repeat() before the batches are made" in finding.way_out
    assert "coordinated-end" not in found(Dataset.range(8).repeat().batch(2), coordinated=True)


def test_large_arrays_are_named_with_their_place(monkeypatch):
    monkeypatch.setattr(memory_rules, "LARGE_GRAPH_BYTES", 5_000_000)
    table = np.zeros([1000, 500])
    inside = np.zeros([750_000], np.float32)

    def lookup(x):
        return tf.gather(captured, x) + tf.cast(tf.gather(inside, x), tf.float64)

    captured = tf.constant(table)
    dataset = Dataset.from_tensor_slices(np.arange(250_000)).map(lookup)
    finding = found(dataset)["large-graph"]
    assert finding.operation == (
        "the dataset's graph, 9 MB: float64 [1000, 500], 4 MB, in map(lookup); float32 [750000], 3 MB, in map(lookup); "
        "int64 [250000], 2 MB, in from_tensor_slices()"
    )
    assert (
        "each registration takes 9 MB to 15.3 MB of the dispatcher's memory and each pass 18.9 MB to 30.6 MB" in finding.meaning
    )
    assert "large-graph" not in found(Dataset.from_tensor_slices(np.arange(250_000)))


def test_a_graph_that_would_abort_is_refused_before_it_is_written(monkeypatch):
    """TensorFlow needs seven times an array's size to write 2 GB, then gRPC aborts the process."""
    dataset = Dataset.from_tensor_slices((np.zeros([1000, 500]), np.arange(1000))).batch(4)
    monkeypatch.setattr(refusals, "LARGEST_GRAPH_BYTES", 4_000_000)
    monkeypatch.setattr(type(dataset), "_as_serialized_graph", None)
    with pytest.raises(
        errors.DatasetError, match=r"graph-too-large: .*4.01 MB: .*aborts.*float64 \[1000, 500\], 4 MB, in from_"
    ):
        preflight.check(dataset, Job())


def test_only_one_rank_writes_a_graph_that_carries_data(monkeypatch):
    dataset = Dataset.from_tensor_slices(np.zeros([1000, 500])).take(3)
    with pytest.raises(errors.DatasetError, match="take-per-worker"):
        preflight.check(dataset, Job(), strict=True, quiet=True)
    monkeypatch.setattr(memory_rules, "LARGE_GRAPH_BYTES", 1_000_000)
    monkeypatch.setattr(type(dataset), "_as_serialized_graph", None)
    preflight.check(dataset, Job(), strict=True, quiet=True)


def test_a_graph_of_constants_inside_functions_is_refused_once_written(monkeypatch):
    inside = np.zeros([1_000_000], np.float32)
    dataset = Dataset.range(9).map(lambda x: tf.gather(inside, x))
    monkeypatch.setattr(refusals, "LARGEST_GRAPH_BYTES", 4_000_000)
    finding = found(dataset)["graph-too-large"]
    assert finding.refused
    assert "float32 [1000000], 4 MB, in map(lambda)" in finding.meaning


def test_a_graph_that_protobuf_can_not_write_comes_back_empty(monkeypatch):
    """Over 2 GiB TensorFlow logs an error and returns no bytes; registering it aborts (probed with 2,100 MiB)."""
    dataset = Dataset.range(9)
    monkeypatch.setattr(type(dataset), "_as_serialized_graph", lambda self, **_: tf.constant(b""))
    assert found(dataset)["graph-too-large"].refused


# --- what is refused ---


def test_a_python_function_is_named_as_its_author_knows_it():
    class Decoder:
        def decode(self, x):
            return x

    decoder = Decoder()
    dataset = Dataset.range(3).map(lambda x: tf.numpy_function(decoder.decode, [x], tf.int64))
    operation = found(dataset)["python-function"].operation
    assert re.fullmatch(r"numpy_function\(decode, test_preflight.py:\d+\) in map\(lambda\)", operation)
    nested = Dataset.range(3).interleave(lambda _: generated())
    assert re.fullmatch(r"from_generator\(generate, test_preflight.py:\d+\)", found(nested)["generator"].operation)


def test_asserted_cardinality_is_refused_where_there_surely_are_several_workers():
    dataset = Dataset.range(9).apply(tf.data.experimental.assert_cardinality(9))
    assert found(dataset, workers=2)["cardinality-per-worker"].refused
    assert not found(dataset)["cardinality-per-worker"].refused
    assert found(dataset, processing_mode="off") == {}


def test_a_dataset_without_a_graph():
    here = Dataset.range(3).apply(tf.data.experimental.prefetch_to_device("/cpu:0"))
    with pytest.raises(errors.DatasetError, match=r"can't write the dataset's graph.*does not support serialization"):
        preflight.check(here, Job())


def test_check_refuses_or_logs(caplog):
    both = Dataset.range(9).take(3).map(lambda x: tf.py_function(lambda y: y, [x], tf.int64))
    with caplog.at_level(logging.WARNING, "hetero_tfdata"):
        with pytest.raises(errors.DatasetError, match=r"^python-function: ") as refused:
            preflight.check(both, Job())
        assert "take-per-worker" not in str(refused.value)
        with pytest.raises(errors.DatasetError, match=r"^python-function: .*; take-per-worker: "):
            preflight.check(both, Job(), strict=True)
        preflight.check(Dataset.range(9).take(3), Job(), quiet=True)
        assert caplog.records == []
        preflight.check(Dataset.range(9).take(3), Job())
    assert [record.getMessage().split(": ")[:2] for record in caplog.records] == [["distribute()", "take-per-worker"]]


def test_distribute_refuses_before_it_waits_for_anybody():
    (first,) = free_blocks(1)
    with pytest.raises(errors.DatasetError, match="generator: "):
        generated().apply(distribute(service=f"grpc://127.0.0.1:{first}"))


def test_one_process_without_data_hosts_is_told_nothing():
    dataset = generated()
    assert dataset.apply(distribute(strict=True)) is dataset


def test_what_launch_preloads_is_known_to_the_script(monkeypatch):
    launched = LaunchedJob(Cluster.discover(), "train.py", preload=("my_ops", "more_ops"))
    for name, value in launched.script_environment.items():
        monkeypatch.setenv(name, value)
    assert preflight.known_preloads()[:2] == ("my_ops", "more_ops")


def test_custom_operations_name_the_module_to_preload(monkeypatch):
    addons_library()
    from hetero_tfdata.service import custom_ops

    custom_ops.load("tensorflow_addons", print)
    import tensorflow_addons as tfa

    # once it could not load a library, it calls none any more
    monkeypatch.setattr(tfa.options, "_TF_ADDONS_PY_OPS", False)
    dataset = Dataset.from_tensor_slices(tf.zeros([2, 6, 6, 3])).map(lambda image: tfa.image.adjust_hsv_in_yiq(image, 0.3))
    finding = found(dataset)["custom-operations"]
    assert finding.operation == "Addons>AdjustHsvInYiq in map(lambda)"
    assert "launch --preload tensorflow_addons" in finding.way_out
    assert found(dataset, preloaded=("tensorflow_addons",)) == {}
    assert found(dataset, takes_demands=True) == {}, "distribute() has this job's own hosts load it"
    assert preflight.check(dataset, Job(takes_demands=True), strict=True).libraries == {
        "tensorflow_addons": ("Addons>AdjustHsvInYiq",)
    }
    assert "tensorflow_addons" in preflight.known_preloads("mine")


def test_a_library_that_no_module_holds_has_to_move_into_one(tmp_path):
    library = addons_library()
    path = tmp_path / "held_by_nobody.so"
    path.write_bytes(library.read_bytes().replace(b"Addons>", b"Nobody>"))
    parse = tf.load_op_library(str(path)).nobody_parse_time
    dataset = Dataset.from_tensors("2020").map(lambda text: parse(text, time_format="%Y", output_unit="SECOND"))
    here, elsewhere = (found(dataset, takes_demands=own)["custom-operations"] for own in (True, False))
    assert here.meaning == elsewhere.meaning == "a worker needs their library, which this script loads itself"
    assert here.way_out == "load the library in a module that can be imported on every host"
    assert elsewhere.way_out.endswith("and start each with `hetero-tfdata launch --preload MODULE`")
    assert preflight.check(dataset, Job(takes_demands=True)).libraries == {}


# --- the command ---


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of datasets in the current folder, with a name that no other test imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"datasets_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("""
import tensorflow as tf
fine = lambda: tf.data.Dataset.range(9)
taken = lambda: tf.data.Dataset.range(9).take(3)
python = lambda: tf.data.Dataset.range(9).map(lambda x: tf.numpy_function(fine, [x], tf.int64))
here = lambda: fine().apply(tf.data.experimental.prefetch_to_device("/cpu:0"))
asserted = lambda: fine().apply(tf.data.experimental.assert_cardinality(9))
nothing = lambda: None
number = 3
def broken():
    raise OSError("no such bucket")
def needs(path):
    return fine()
""")
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("arguments", "code", "phrase"),
    [
        (["fine"], 0, "OK: {0}:fine runs on several workers as it does on one"),
        (["taken"], 0, "warning  take-per-worker  take(3)\n         each of the 2 workers takes 3"),
        (["taken", "--strict"], 1, "refused  take-per-worker  take(3)"),
        (["taken", "--processing-mode", "off"], 0, "OK: "),
        (["python"], 1, "refused  python-function  numpy_function(<lambda>, {0}.py:3)"),
        (["here"], 1, "refused  unwritable  {0}:here\n         TensorFlow can't write"),
        (["asserted"], 1, "refused  cardinality-per-worker  assert_cardinality(9)"),
        (["asserted", "--workers", "1"], 0, "warning  cardinality-per-worker"),
    ],
)
def test_check_prints_what_there_is(arguments, code, phrase, module, capsys):
    assert cli.main(["check", f"{module}:{arguments[0]}", *arguments[1:]]) == code
    assert phrase.format(module) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("function", "phrase"),
    [
        ("{0}", "expected MODULE:FUNCTION such as train:make_dataset, got '{0}'"),
        ("{0}:absent", "expected a function absent in {0}, there is none"),
        ("{0}:number", "expected a function number in {0}, there is none"),
        ("{0}:nothing", "expected it to return a tf.data.Dataset, got NoneType"),
        ("{0}:broken", "calling it without arguments failed: OSError: no such bucket ({0}.py:11)"),
        ("{0}:needs", "calling it without arguments failed: TypeError"),
        ("no_such_module_{0}:make", "importing no_such_module_{0} failed: ModuleNotFoundError"),
    ],
)
def test_check_says_what_is_wrong_with_its_input(function, phrase, module, capsys):
    assert cli.main(["check", function.format(module)]) == 2
    assert phrase.format(module) in capsys.readouterr().err


def test_check_counts_workers_from_one(module, capsys):
    assert cli.main(["check", f"{module}:fine", "--workers", "0"]) == 2
    assert "--workers: expected at least 1, got 0" in capsys.readouterr().err


def test_check_as_json(module, capsys):
    assert cli.main(["check", f"{module}:taken", "--json", "--workers", "3"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {key: report[key] for key in ("function", "processing_mode", "workers", "refused")} == {
        "function": f"{module}:taken",
        "processing_mode": "dynamic",
        "workers": 3,
        "refused": False,
    }
    (finding,) = report["findings"]
    assert set(finding) == {"code", "operation", "meaning", "way_out", "refused"}
    assert (finding["code"], finding["operation"], finding["refused"]) == ("take-per-worker", "take(3)", False)


def test_check_names_what_the_hosts_will_import(tmp_path, monkeypatch, capsys):
    addons_library()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"hsv_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("""
import tensorflow as tf
from hetero_tfdata.service import custom_ops
custom_ops.load("tensorflow_addons", print)
import tensorflow_addons as tfa
make = lambda: tf.data.Dataset.from_tensors(tf.zeros([6, 6, 3])).map(lambda x: tfa.image.adjust_hsv_in_yiq(x, 0.3))
""")
    monkeypatch.setattr("tensorflow_addons.options._TF_ADDONS_PY_OPS", False)
    assert cli.main(["check", f"{name}:make", "--strict"]) == 0
    assert capsys.readouterr().out == (
        "note     custom-operations  Addons>AdjustHsvInYiq\n"
        "         every host that serves will import tensorflow_addons: install it there, or put it beside the training "
        "script\n"
        f"OK: {name}:make runs on several workers as it does on one\n"
    )
    assert cli.main(["check", f"{name}:make", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["libraries"] == {"tensorflow_addons": ["Addons>AdjustHsvInYiq"]}
    sys.modules.pop(name)


def test_the_readme_shows_what_check_prints(tmp_path):
    section = README[README.index("## Before it runs: the preflight") :]
    code, shown = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", section, re.DOTALL).groups()
    command = re.search(r"`hetero-tfdata (check photos:[^`]*)` prints", section).group(1)
    (tmp_path / "photos.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "hetero_tfdata", *command.split()],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (0, shown)
