"""distribute() through real dispatchers, workers and consumers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import clean_environment, free_blocks

HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))

# Each rank writes the ids it saw; the same script in every kind of job.
SEE = """
import json, os, sys, time
import tensorflow as tf
from hetero_tfdata import Cluster, distribute

dataset = tf.data.Dataset.range(600).shuffle(100, seed=1).batch(10)
dataset = dataset.apply(distribute(ready_timeout_s=120))
validation = tf.data.Dataset.range(1000, 1060).batch(7)
ranks = Cluster.discover().ranks
rank = ranks.rank


def read():
    for batch in dataset:
        time.sleep(0.01)  # a step, so that no rank is done before the other has begun
        yield from (int(x) for x in batch)


def meet(place):
    open(os.path.join(sys.argv[1], f"{place}-{rank}"), "w").close()
    while not all(os.path.exists(os.path.join(sys.argv[1], f"{place}-{other}")) for other in range(ranks.size)):
        time.sleep(0.02)


meet("start")
epochs = [list(read()) for _ in range(2)]
validated = None
if rank == 0:
    validation = validation.apply(distribute(ready_timeout_s=120))
    validated = sorted(int(x) for batch in validation for x in batch)
with open(os.path.join(sys.argv[1], f"rank-{rank}.json"), "w") as file:
    json.dump({"epochs": epochs, "validated": validated, "spec": str(dataset.element_spec)}, file)
"""


def check_seen(folder: Path, ranks: int) -> list[dict[str, object]]:
    seen = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(ranks)]
    for epoch in range(2):
        union = sorted(row for one in seen for row in one["epochs"][epoch])
        assert union == list(range(600)), "every row exactly once over all ranks"
    assert seen[0]["validated"] == list(range(1000, 1060)), "the leader alone validates, and sees all of it"
    assert seen[0]["spec"] == "TensorSpec(shape=(None,), dtype=tf.int64, name=None)"
    return seen


@pytest.fixture
def see(write_script, tmp_path):
    return write_script(SEE), tmp_path


def test_plain_local_script_gets_its_dataset_back(see):
    script, folder = see
    done = subprocess.run([sys.executable, str(script), str(folder)], env=clean_environment(), timeout=120)
    assert done.returncode == 0
    check_seen(folder, 1)


def test_one_process_gets_the_very_same_dataset():
    import tensorflow as tf

    from hetero_tfdata import distribute

    dataset = tf.data.Dataset.range(3)
    assert dataset.apply(distribute()) is dataset


def test_two_ranks_without_data_hosts_share_one_stream(see):
    """horovodrun alone: no SageMaker, no launcher; the first rank serves."""
    pytest.importorskip("horovod")
    script, folder = see
    done = subprocess.run(
        [HOROVODRUN, "--gloo", "-np", "2", "-H", "localhost:2", sys.executable, str(script), str(folder)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check_seen(folder, 2)


@pytest.mark.slow
def test_homogeneous_job_of_two_hosts_shares_one_stream(see, make_job):
    """launch on two training hosts that TF_CONFIG makes ranks: workers on both, none reads alone."""
    script, folder = see
    job = make_job({"homogeneousCluster": ["algo-1", "algo-2"]})
    for index, host in enumerate(job.hosts):
        config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, "-m", "hetero_tfdata", "launch", str(script), str(folder)]
        job.start(host, *command, TF_CONFIG=json.dumps(config))
    assert job.wait(180) == {"algo-1": 0, "algo-2": 0}, job.logs()
    check_seen(folder, 2)
    assert job.report("algo-1")["batches_served"] > 0
    assert job.report("algo-2")["batches_served"] > 0


def test_heterogeneous_job_of_two_ranks(see, make_job):
    """Two data hosts and horovodrun's two ranks below the same entry point."""
    pytest.importorskip("horovod")
    script, folder = see
    job = make_job({"data_group": ["algo-1", "algo-3"], "dnn_group": ["algo-2"]}, distribution=["dnn_group"])
    launch = [sys.executable, "-m", "hetero_tfdata", "launch", str(script), str(folder)]
    job.start("algo-1", *launch)
    job.start("algo-3", *launch)
    job.start("algo-2", HOROVODRUN, "--gloo", "-np", "2", "-H", "localhost:2", *launch)
    assert set(job.wait(180).values()) == {0}, job.logs()
    seen = check_seen(folder, 2)
    served = {host: job.report(host)["batches_served"] for host in ("algo-1", "algo-3")}
    assert all(served.values()), served
    # 2 epochs of 60 batches and 9 of validation, and what a split leaves as partial batches on each worker
    assert 129 <= sum(served.values()) <= 129 + 3 * 2
    assert all(one["epochs"][0] for one in seen), "both ranks were served"


@pytest.mark.slow
def test_unequal_hosts_serve_unequal_counts(make_job, write_script):
    """Counted in the worker processes: a host with three workers beside one with one."""
    script = write_script("""
import tensorflow as tf
from tensorflow.python.data.experimental.ops import testing
from hetero_tfdata import Wire, distribute

# a worker makes 50 batches a second, however many processors there are
dataset = tf.data.Dataset.range(2400).batch(4).apply(testing.sleep(20_000))
dataset = dataset.apply(distribute(wire=Wire(keep_batches=True), ready_timeout_s=120))
batches = rows = 0
for batch in dataset:
    batches += 1
    rows += len(batch)
print("BATCHES", batches, "ROWS", rows)
""")
    job = make_job({"data_group": ["algo-1", "algo-3"], "dnn_group": ["algo-2"]})
    job.launch("algo-1", script, "--workers", "3")
    job.launch("algo-3", script, "--workers", "1")
    job.launch("algo-2", script)
    assert set(job.wait(180).values()) == {0}, job.logs()
    three, one = job.report("algo-1"), job.report("algo-3")
    assert [len(report["workers"]) for report in (three, one)] == [3, 1]
    assert three["batches_served"] == sum(worker["batches_served"] for worker in three["workers"])
    assert three["batches_served"] > one["batches_served"] > 0
    printed = job.log("algo-2").split("BATCHES ")[1].split()
    assert printed[2] == "2400"
    assert three["batches_served"] + one["batches_served"] == int(printed[0]), "as many as the trainer received"


def test_custom_operations_run_on_the_workers(make_job, write_script):
    """TensorFlow Addons is installed here, so its libraries are in every worker without a flag."""
    pytest.importorskip("tensorflow_addons")
    script = write_script("""
import tensorflow as tf
from hetero_tfdata import distribute
from hetero_tfdata.service import custom_ops

custom_ops.load("tensorflow_addons", print)
import tensorflow_addons as tfa

images = tf.data.Dataset.from_tensor_slices(tf.random.stateless_uniform([8, 6, 6, 3], [1, 2]))
turned = images.map(lambda image: tfa.image.adjust_hsv_in_yiq(image, 0.3, 1.2, 0.9))
expected = sorted(float(tf.reduce_sum(x)) for x in turned)
got = sorted(float(tf.reduce_sum(x)) for x in turned.apply(distribute(ready_timeout_s=120)))
assert len(got) == 8 and max(abs(a - b) for a, b in zip(expected, got)) < 1e-4, (expected, got)
""")
    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    for host in job.hosts:
        job.launch(host, script)
    assert set(job.wait(180).values()) == {0}, job.logs()


# --- an address instead of a cluster: stock servers of somebody else ---


def test_explicit_service_runs_on_stock_workers(stock_service):
    import tensorflow as tf

    from hetero_tfdata import distribute

    def once() -> list[int]:
        dataset = tf.data.Dataset.range(100).batch(5).apply(distribute(service=stock_service, ready_timeout_s=30))
        return sorted(int(x) for batch in dataset for x in batch)

    assert once() == list(range(100))
    assert once() == list(range(100)), "the same line again is another stream"


def test_nested_elements_keep_their_structure(stock_service):
    import tensorflow as tf

    from hetero_tfdata import distribute

    dataset = tf.data.Dataset.range(6).map(
        lambda i: ({"a": tf.fill([2, 3], i), "r": tf.ragged.range(tf.stack([i, i + 1]))}, tf.strings.as_string(i))
    )
    remote = dataset.apply(distribute(service=stock_service, compression="auto", ready_timeout_s=30))
    assert remote.element_spec == dataset.element_spec
    expected = {label.numpy(): (x["a"].numpy().tolist(), x["r"].to_list()) for x, label in dataset}
    assert {label.numpy(): (x["a"].numpy().tolist(), x["r"].to_list()) for x, label in remote} == expected


def test_two_processes_share_a_job_name(stock_service, write_script, tmp_path):
    script = write_script(f"""
import sys
import tensorflow as tf
from hetero_tfdata import distribute
dataset = tf.data.Dataset.range(500).batch(5).apply(
    distribute(service="{stock_service}", job_name="shared", ready_timeout_s=60))
print(*[int(x) for batch in dataset for x in batch])
""")
    consumers = [
        subprocess.Popen([sys.executable, str(script)], env=clean_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    rows = [int(word) for consumer in consumers for word in consumer.communicate(timeout=120)[0].split()]
    assert [consumer.returncode for consumer in consumers] == [0, 0]
    assert sorted(rows) == list(range(500))


def test_unreachable_dispatcher_is_named():
    import tensorflow as tf

    from hetero_tfdata import distribute, errors

    (first,) = free_blocks(1)
    with pytest.raises(errors.NotReadyError, match=rf"waited [12] s for the dispatcher at 127.0.0.1:{first} \(unavailable"):
        tf.data.Dataset.range(3).apply(distribute(service=f"grpc://127.0.0.1:{first}", ready_timeout_s=1))


def test_unroutable_worker_is_named():
    """A worker that advertises an address where nobody listens: TensorFlow would wait for ever."""
    import tensorflow as tf

    from hetero_tfdata import distribute, errors

    service = tf.data.experimental.service
    first = free_blocks(1)[0]
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=first))
    worker = service.WorkerServer(
        service.WorkerConfig(dispatcher_address=f"127.0.0.1:{first}", worker_address=f"127.0.0.1:{first + 2}", port=first + 1)
    )
    with pytest.raises(errors.NotReadyError, match=rf"connection to the worker at 127.0.0.1:{first + 2} \(.*refused"):
        tf.data.Dataset.range(3).apply(distribute(service=f"grpc://127.0.0.1:{first}", ready_timeout_s=2))
    del worker, dispatcher


def test_missing_data_host_is_named(make_job, monkeypatch):
    import tensorflow as tf

    from hetero_tfdata import distribute, errors

    job = make_job({"data_group": ["algo-1", "algo-3"], "dnn_group": ["algo-2"]})
    for name, value in job.environment("algo-2").items():
        monkeypatch.setenv(name, value)
    service = tf.data.experimental.service
    first = job.first_port["algo-1"]
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=first))
    worker = service.WorkerServer(
        service.WorkerConfig(dispatcher_address=f"127.0.0.1:{first}", worker_address=f"127.0.0.1:{first + 10}", port=first + 10)
    )
    with pytest.raises(errors.NotReadyError, match=rf"a worker on algo-3 \(127.0.0.1:{job.first_port['algo-3'] + 10}\)\."):
        tf.data.Dataset.range(3).apply(distribute(ready_timeout_s=2))
    del worker, dispatcher


def test_data_host_must_not_distribute(make_job, monkeypatch):
    import tensorflow as tf

    from hetero_tfdata import distribute, errors

    job = make_job({"data_group": ["algo-1"], "dnn_group": ["algo-2"]})
    for name, value in job.environment("algo-1").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.ConfigurationError, match="called on algo-1 of group 'data_group', which has the role data"):
        tf.data.Dataset.range(3).apply(distribute())


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "http://a:1", "grpc://a", "grpc://:1"])
def test_malformed_address(address):
    import tensorflow as tf

    from hetero_tfdata import distribute, errors

    with pytest.raises(errors.ConfigurationError, match="expected an address like grpc://host:port"):
        tf.data.Dataset.range(3).apply(distribute(service=address))
