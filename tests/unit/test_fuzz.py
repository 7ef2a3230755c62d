"""What parses bytes that others wrote: it takes them or raises the error that its docstring names, whatever they are."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetero_tfdata.cluster import Cluster, sagemaker
from hetero_tfdata.errors import ConfigurationError, ResourceConfigError
from hetero_tfdata.service import demand, shares, status
from hetero_tfdata.service.members import Members
from hetero_tfdata.service.status import HostStatus, Phase, ServerStatus

RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DEEP = b"[" * 50_000  # within a message's 64 kB, and deeper than Python's parser goes
STATUS = json.loads(
    status.encode(
        HostStatus(
            "algo-1",
            Phase.SERVING,
            None,
            4,
            (ServerStatus("worker 0", 18110, True, True, 0, 1, 1.0, 1.0),),
            tensorflow="2.15.1",
        )
    )
)
SHARE = {
    "stream": "s",
    "number": 1,
    "rank": 0,
    "elements": 1,
    "rows": 10,
    "state": "open",
    "expected": None,
    "drops_remainder": False,
}
DEMAND = {"libraries": {"my_ops": ["MyOp"]}, "workers": 2, "timeout_s": 3.0}
CONFIG = {
    "current_host": "algo-1",
    "hosts": ["algo-1", "algo-2"],
    "network_interface_name": "eth0",
    "instance_groups": [
        {"instance_group_name": "data_group", "instance_type": "ml.c5.18xlarge", "hosts": ["algo-1"]},
        {"instance_group_name": "dnn_group", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-2"]},
    ],
}


def paths(document: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places in a document."""
    inside = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    return [above, *(path for key, value in inside for path in paths(value, (*above, key)))]


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> bytes:
    """The document with another value somewhere, or something missing, or cut off; or any other JSON, or any bytes."""
    kind = draw(st.sampled_from(["value", "missing", "cut", "json", "bytes"]))
    if kind == "json":
        return json.dumps(draw(JSON)).encode()
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    copy = json.loads(json.dumps(document))
    *above, last = draw(st.sampled_from([path for path in paths(copy) if path]))
    place = copy
    for key in above:
        place = place[key]
    if kind == "value":
        place[last] = draw(JSON)
    elif kind == "missing":
        del place[last]
    text = json.dumps(copy).encode()
    return text[: draw(st.integers(0, len(text)))] if kind == "cut" else text


@RELAXED
@given(mutated(STATUS))
def test_a_hosts_status(message):
    with contextlib.suppress(ValueError, TypeError, KeyError):
        assert isinstance(status.decode(message), HostStatus)


@RELAXED
@given(mutated(SHARE))
def test_a_ranks_share(message):
    with contextlib.suppress(ValueError, TypeError):
        share = shares.decode(message)
        assert share.number >= 0
        assert share.state in ("open", "ended", "left")


@RELAXED
@given(mutated(DEMAND))
def test_a_demand(message):
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        what, timeout_s = demand.decode(message)
        assert timeout_s >= 0
        assert what.workers is None or what.workers >= 1


@pytest.mark.parametrize("decode", [status.decode, shares.decode, demand.decode])
def test_brackets_without_an_end(decode):
    with pytest.raises(ValueError, match="JSON"):
        decode(DEEP)


@RELAXED
@given(mutated(CONFIG))
def test_resourceconfig_json(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input" / "config" / "resourceconfig.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(text)
        with contextlib.suppress(ConfigurationError):
            cluster = Cluster.discover(environ={"SAGEMAKER_BASE_DIR": folder})
            assert cluster.here in cluster.hosts


def test_a_resourceconfig_json_of_brackets_without_an_end():
    with pytest.raises(ResourceConfigError, match="expected a JSON object"):
        sagemaker.read({"SAGEMAKER_BASE_DIR": "/no/such/folder", "SM_RESOURCE_CONFIG": DEEP.decode()})


@RELAXED
@given(st.text(max_size=40))
def test_distribution_groups(text):
    with contextlib.suppress(ResourceConfigError):
        groups = sagemaker.distribution_groups({"SM_DISTRIBUTION_INSTANCE_GROUPS": text})
        assert all(isinstance(group, str) for group in groups)


@RELAXED
@given(st.text(max_size=60))
def test_no_text_is_a_member_by_accident(peer):
    assert f"ipv4:{peer}:1" not in Members([]) or peer.startswith("127.")
