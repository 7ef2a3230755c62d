"""A TCP relay before a worker: it counts what crosses, and holds the worker's answers back while a test looks."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

_PREFACE_BYTES = 24  # what an HTTP/2 connection begins with (RFC 9113, 3.4)
_FRAME_HEADER_BYTES = 9  # length in 3 bytes, type, flags, stream in 4 (RFC 9113, 4.1)
_HEADERS = 1  # the frame that opens a request, and the one that ends its answer
_END_STREAM = 1


class Relay:
    """Listens on `port` of 127.0.0.1 and passes on to another port there. `with` ends it.

    Attributes:
        requests: HTTP/2 requests that went to the server so far.
        answers: those that were answered.
        answer_bytes: bytes that came back.
        passes_answers: clear it to hold them back.
    """

    def __init__(self, server_port: int) -> None:
        self.requests = 0
        self.answers = 0
        self.answer_bytes = 0
        self.passes_answers = threading.Event()
        self.passes_answers.set()
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.passes_answers.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets += [client, server]
                for passing in (self._pass_requests, self._pass_answers):
                    threading.Thread(target=passing, args=(client, server), daemon=True).start()

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        headers = _Headers(preface_bytes=_PREFACE_BYTES)
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                self.requests += headers.count(data)
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _pass_answers(self, client: socket.socket, server: socket.socket) -> None:
        ends = _Headers(flag=_END_STREAM)
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                self.passes_answers.wait()
                self.answers += ends.count(data)
                self.answer_bytes += len(data)
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


class _Headers:
    """Counts the HEADERS frames with a flag in one direction of an HTTP/2 connection."""

    def __init__(self, *, preface_bytes: int = 0, flag: int = 0) -> None:
        self._skip = preface_bytes
        self._flag = flag
        self._unread = b""

    def count(self, data: bytes) -> int:
        found, self._unread = 0, self._unread + data
        while len(self._unread) >= self._skip + _FRAME_HEADER_BYTES:
            frame = self._unread[self._skip :]
            end = _FRAME_HEADER_BYTES + int.from_bytes(frame[:3], "big")
            if len(frame) < end:
                break
            found += frame[3] == _HEADERS and frame[4] & self._flag == self._flag
            self._unread, self._skip = frame[end:], 0
        return found
