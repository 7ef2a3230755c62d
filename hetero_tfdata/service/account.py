"""A rank's account of what it got: told to the leader's launcher, which adds up the ranks', or added up here if it is alone."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence

from hetero_tfdata.cluster.topology import Host, Ranks
from hetero_tfdata.service.pulse import Pulse
from hetero_tfdata.service.rows import Extent
from hetero_tfdata.service.shares import Share, teller
from hetero_tfdata.service.status import ServerStatus
from hetero_tfdata.service.supervisor import Supervisor
from hetero_tfdata.service.tally import Tally

__all__ = ["Account"]

_log = logging.getLogger("hetero_tfdata")


class Account:
    """Tells the shares of one rank in one stream, each change once.

    Args:
        stream: its name.
        pulse: of its iterators.
        extent: of its passes.
        ranks: this one, and how many there are.
        leader: whose launcher adds up; None: there is none.
        servers: of this host, where this process owns them.
        falls_back: the stream goes on without its service.
    """

    def __init__(
        self,
        stream: str,
        pulse: Pulse,
        extent: Extent,
        ranks: Ranks,
        leader: Host | None,
        servers: Supervisor | None,
        *,
        falls_back: bool = False,
    ) -> None:
        self._stream = stream
        self._pulse = pulse
        self._rank = ranks.rank
        self._told: dict[int, str] = {}
        self._tally: Tally | None = None
        self._tell: Callable[[Share], bool]
        if leader is not None:
            self._tell = teller(leader)
        else:
            if ranks.size > 1:  # nobody adds them up
                extent = dataclasses.replace(extent, rows=None)

            def ask() -> Mapping[str, Sequence[ServerStatus]]:
                return {"this host": servers.status()} if servers is not None else {}

            self._tally = Tally(ranks.size, _log.warning, ask)
            self._tell = self._tally.add
        self._extent = extent
        self._falls_back = falls_back

    def look(self) -> None:
        """Tells of passes that have begun or ended since the last time."""
        self._look(last=False)
        if self._tally is not None:
            self._tally.look()

    def close(self) -> None:
        """At the end of the process: also how far the open passes came."""
        self._look(last=True)

    def _look(self, *, last: bool) -> None:
        for number, one in enumerate(self._pulse.passes(), start=1):
            if self._told.get(number) == one.state and not (last and one.state == "open"):
                continue
            extent = self._extent
            share = Share(
                self._stream,
                number,
                self._rank,
                one.elements,
                one.rows,
                one.state,
                extent.rows,
                extent.drops_remainder,
                extent.endless,
                self._falls_back,
            )
            if not self._tell(share):
                return
            self._told[number] = one.state
