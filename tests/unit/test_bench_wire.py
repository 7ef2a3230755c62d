"""The link that make bench-wire emulates, and its arithmetic."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))  # the relay's process imports its modules there
    import wire
    from wiring import chart, link, relay, scaling

    return SimpleNamespace(wire=wire, chart=chart, link=link, relay=relay, scaling=scaling)


# --- the command line ---


def test_all_parts_run_each_with_its_rounds(bench):
    options = bench.wire.parse([])
    assert options.rounds == {"loopback": 5, "link": 3, "scaling": 3}
    assert options.batch == (64, 256)


def test_parts_are_chosen_and_keep_their_order(bench):
    options = bench.wire.parse(["--only", "scaling", "--only", "loopback", "--rounds", "2", "--batch", "256"])
    assert list(options.rounds.items()) == [("loopback", 2), ("scaling", 2)]
    assert options.batch == (256,)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--only", "wan"], "argument --only: invalid choice: 'wan' (choose from"),
        (["--rounds", "0"], "--rounds: expected at least 1, got 0"),
        (["--batch", "100"], "argument --batch: invalid choice: 100 (choose from 64, 256)"),
    ],
)
def test_wrong_options_are_named(bench, capsys, wrong, message):
    with pytest.raises(SystemExit) as error:
        bench.wire.parse(wrong)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


# --- the link's arithmetic ---


def test_a_slower_link_holds_as_many_bytes(bench):
    slow = bench.relay.Link(0.0002, 625e6, 3125e6).slowed(10)
    assert slow == bench.relay.Link(0.002, 62.5e6, 312.5e6)
    assert slow.flow_bytes_per_s * slow.one_way_s == pytest.approx(625e6 * 0.0002)
    assert bench.relay.Link(1.0, 1.0).slowed(2).host_bytes_per_s is None


def test_bytes_leave_at_the_rate(bench):
    pace = bench.relay.Pace(1000.0)
    pace.idle(50.0)
    assert pace.take(500, 50.0) == pytest.approx(50.5)
    assert pace.take(500, 50.5) == pytest.approx(51.0)


def test_a_late_reader_catches_up_but_not_for_ever(bench):
    pace = bench.relay.Pace(1000.0)
    pace.idle(50.0)
    pace.take(500, 50.0)
    assert pace.take(500, 50.51) == pytest.approx(51.0), "read 10 ms late, left on time"
    assert pace.take(500, 60.0) == pytest.approx(60.48), "of nine seconds 20 ms count"


def test_who_had_nothing_to_send_does_not_catch_up(bench):
    pace = bench.relay.Pace(1000.0)
    pace.take(500, 50.0)
    pace.idle(50.99)
    assert pace.take(500, 51.0) == pytest.approx(51.49)


# --- the relay, a real process ---


@contextlib.contextmanager
def receiver(expected: int) -> Iterator[tuple[int, list[bytes]]]:
    """A port, and what each of so many connections brought until its end; echoes one byte at a time if it is a dot."""
    listener = socket.create_server(("127.0.0.1", 0))
    got: list[bytes] = []

    def serve() -> None:
        with listener.accept()[0] as connection:
            content = b""
            while part := connection.recv(65_536):
                if part == b".":
                    connection.sendall(part)
                content += part
            got.append(content)
            connection.sendall(b"done")

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(expected)]
    for thread in threads:
        thread.start()
    with listener:
        yield listener.getsockname()[1], got
        for thread in threads:
            thread.join(timeout=10.0)


def send(port: int, content: bytes) -> float:
    """Seconds until the other side has all and says so."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4) == b"done"
    return time.monotonic() - started


def test_each_flow_has_its_rate_and_all_have_the_hosts(bench):
    content = os.urandom(1_000_000)
    link = bench.relay.Link(one_way_s=0.0, flow_bytes_per_s=2e6, host_bytes_per_s=3e6)
    with receiver(4) as (target, got), bench.relay.running(3, link) as between:
        for port in between.ports:
            between.lead(port, target)
        alone = send(between.ports[0], content)
        threads = [threading.Thread(target=send, args=(port, content)) for port in between.ports]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30.0)
        together = time.monotonic() - started
    assert got == [content] * 4
    assert 0.45 < alone < 5.0, "1 MB at 2 MB/s"
    assert 0.9 < together < 10.0, "3 MB at 3 MB/s; of each flow's own rate it would be 0.5 s"


def test_what_was_sent_arrives_a_delay_later_in_both_directions(bench):
    link = bench.relay.Link(one_way_s=0.05, flow_bytes_per_s=1e6)
    with receiver(1) as (target, _), bench.relay.running(1, link) as between:
        between.lead(between.ports[0], target)
        trips = []
        with socket.create_connection(("127.0.0.1", between.ports[0]), timeout=30.0) as connection:
            for _ in range(5):
                started = time.monotonic()
                connection.sendall(b".")
                assert connection.recv(1) == b"."
                trips.append(time.monotonic() - started)
    assert 0.07 < min(trips) < 1.0, "50 ms there and 50 ms back"


def test_a_relay_ends_with_its_block_and_its_connections_with_it(bench):
    with receiver(1) as (target, _):
        with bench.relay.running(1, bench.relay.Link(0.0, 1e6)) as between:
            between.lead(between.ports[0], target)
            connection = socket.create_connection(("127.0.0.1", between.ports[0]), timeout=10.0)
            connection.sendall(b".")
            assert connection.recv(1) == b"."
        with pytest.raises(ProcessLookupError):
            os.kill(between.pid, 0)
        with connection, contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


# --- figures ---


def turns(*rates: float, cpu_s: float = 0.1) -> list[dict]:
    return [{"bytes": rate, "wall_s": 1.0, "client_cpu_s": cpu_s, "others_cpu_s": [0.0]} for rate in rates]


def test_growth_is_each_rounds_own_and_ends_at_the_link(bench):
    link = bench.relay.Link(0.002, 62.5e6, 125e6)
    found = bench.link.figures(
        {"tcp": {1: turns(50e6, 40e6, 60e6), 2: turns(100e6, 90e6, 60e6), 4: turns(*[120e6] * 3)}}, link, 0.004
    )
    workers = found["tcp"]["workers"]
    assert workers[1]["bytes_per_s"] == 50e6
    assert workers[2]["of_linear"] == 1.0, "of 1.0, 1.125 and 0.5"
    assert workers[2]["of_flows"] == pytest.approx(0.72)
    assert [workers[count]["limit"] for count in (1, 2, 4)] == ["flows", "flows", "link"]
    assert workers[4]["of_linear"] == pytest.approx(0.6)
    assert workers[4]["of_linear_until_full"] == pytest.approx(0.96)
    assert found["tcp"]["least_of_linear_until_full"] == pytest.approx(0.96), "of the link where it is full"
    busy = bench.link.figures({"tcp": {1: turns(50e6, cpu_s=1e3)}}, link, 0.004)
    assert busy["tcp"]["workers"][1]["limit"] == "CPUs"


def test_at_full_speed_the_cpus_time_for_a_message_stays(bench):
    link = bench.link.VPC.slowed(10)
    # 1 MB: 16 ms of transfer, 4 ms there and back, 2 ms of CPU; at full speed 1.6, 0.4 and 2 ms
    share = bench.link.at_full_speed(1e6, 1e6 / 0.022, link, 0.004)
    assert share == pytest.approx(1.6 / 4.0)
    found = bench.link.figures({"ours": {1: turns(1e9)}}, link, 0.004)["ours"]
    assert found["of_flow_at_full_speed"] < 1.0, "faster than the link can be only noise"
    assert found["workers_that_fill_the_host"] >= 5


def test_scaling_is_held_against_the_sleep(bench):
    sleeping = [{"batches": batches, "wall_s": 1.0} for batches in (90, 80, 100)]
    (cell,) = bench.scaling.summary({(way, 2, 1): sleeping for way in bench.scaling.WAYS})
    assert cell["ideal_batches_per_s"] == 100
    assert cell["ours"] == {"batches_per_s": 90.0, "min": 80.0, "max": 100.0, "of_ideal": 0.9}


def busy(*cpu_s: float) -> list[dict]:
    return [{"batches": 1000, "wall_s": 0.5, "client_cpu_s": each, "others_cpu_s": [each]} for each in cpu_s]


def test_overhead_is_a_ratio_of_each_rounds_own(bench):
    found = bench.scaling.overhead({"ours": busy(0.1, 0.1, 0.5), "stock": busy(0.2, 0.4, 0.5)})
    assert found["stock"]["ours_to_it"] == pytest.approx(0.5), "of medians it would be 0.25"
    assert found["stock"]["client_cpu_us"] == pytest.approx(400)
    assert found["ours"]["ours_to_it"] == 1.0


# --- the chart ---


def test_the_chart_shows_the_parts_that_ran(bench, tmp_path):
    from PIL import Image

    link = bench.link.VPC.slowed(10)
    two = {workers: turns(6e7 * workers) for workers in (1, 2)}
    result = {"link": {"factor": 10, "link": vars(link), "contenders": bench.link.figures({"ours": two}, link, 0.004)}}
    ((title, across, curves),) = bench.chart.panels(result)
    assert (title, across) == ("MB/s over a link 10 times slower than a VPC's", "workers of one data host")
    assert [(curve.label, curve.points) for curve in curves] == [
        ("the link allows", ((1, 62.5), (2, 125.0))),
        ("distribute()", ((1, 60.0), (2, 120.0))),
    ]
    bench.chart.draw(tmp_path / "wire.png", result)
    with Image.open(tmp_path / "wire.png") as page:
        assert page.size == (900, 330)
