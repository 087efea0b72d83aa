"""A small dogstatsd client over UDP, with the interface of aiodogstatsd's ``Client``.

Every metric is one datagram, sent at once and never waited for: no server is not an error.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter
from types import TracebackType
from typing import Any

__all__ = ["Client", "get_statsd_client"]

_Tags = Mapping[str, "float | str"] | None


class Client:
    """Send counters, gauges and timings to ``host:port``; unusable names are sent as they are."""

    def __init__(
        self,
        *,
        host: str = "localhost",
        port: int = 9125,
        namespace: str | None = None,
        constant_tags: _Tags = None,
        sample_rate: float = 1.0,
    ) -> None:
        self._address = (host, port)
        self._prefix = f"{namespace}." if namespace else ""
        self._constant_tags = dict(constant_tags or {})
        self._sample_rate = sample_rate
        self._socket: socket.socket | None = None
        self._found: list[Any] = []

    @property
    def connected(self) -> bool:
        """Whether metrics are being sent."""
        return self._socket is not None

    @property
    def disconnected(self) -> bool:
        """Whether metrics are being dropped: before :meth:`connect` and after :meth:`close`."""
        return self._socket is None

    @property
    def closing(self) -> bool:
        """Always False: nothing is queued, so closing takes no time."""
        return False

    async def __aenter__(self) -> Client:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Resolve the address and open the socket. Raises OSError when the host is unknown."""
        import asyncio

        if self._socket is not None:
            return
        loop = asyncio.get_running_loop()
        host, port = self._address
        self._found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        self._open_next()

    def _open_next(self) -> None:
        family, kind, protocol, _, address = self._found[0]
        self._found = self._found[1:] + self._found[:1]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setblocking(False)
            opened.connect(address)
        except OSError:
            opened.close()
            raise
        if self._socket is not None:
            self._socket.close()
        self._socket = opened

    async def close(self) -> None:
        """Close the socket; metrics are dropped from now on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _report(
        self, name: str, kind: str, value: float | str, tags: _Tags, sample_rate: float | None
    ) -> None:
        if self._socket is None:
            return
        rate = self._sample_rate if sample_rate is None else sample_rate
        if rate < 1.0 and random.random() > rate:
            return
        metric = f"{self._prefix}{name}:{value}|{kind}"
        if rate < 1.0:
            metric += f"|@{rate}"
        if tags or self._constant_tags:
            merged = {**self._constant_tags, **(tags or {})}
            metric += "|#" + ",".join(f"{key}:{text}" for key, text in merged.items())
        datagram = metric.encode("utf-8", "replace")
        # A load test must not fail for its metrics: nobody may listen, the socket's buffer may be full.
        try:
            self._socket.send(datagram)
        except ConnectionRefusedError:
            # `localhost` is often ::1 first and 127.0.0.1 second, and a server listens on only one of them.
            with suppress(OSError):
                self._open_next()
                self._socket.send(datagram)
        except OSError:
            pass

    def gauge(self, name: str, *, value: float, tags: _Tags = None, sample_rate: float | None = None) -> None:
        """Report a value that stays until the next one."""
        self._report(name, "g", value, tags, sample_rate)

    def increment(
        self, name: str, *, value: float = 1, tags: _Tags = None, sample_rate: float | None = None
    ) -> None:
        """Count up by ``value``."""
        self._report(name, "c", value, tags, sample_rate)

    def decrement(
        self, name: str, *, value: float = 1, tags: _Tags = None, sample_rate: float | None = None
    ) -> None:
        """Count down by ``value``."""
        self._report(name, "c", -value if value else value, tags, sample_rate)

    def histogram(
        self, name: str, *, value: float, tags: _Tags = None, sample_rate: float | None = None
    ) -> None:
        """Report a value for the server to build a histogram of."""
        self._report(name, "h", value, tags, sample_rate)

    def distribution(
        self, name: str, *, value: float, tags: _Tags = None, sample_rate: float | None = None
    ) -> None:
        """Report a value for a distribution over all hosts."""
        self._report(name, "d", value, tags, sample_rate)

    def timing(
        self, name: str, *, value: float, tags: _Tags = None, sample_rate: float | None = None
    ) -> None:
        """Report a duration in milliseconds."""
        self._report(name, "ms", value, tags, sample_rate)

    @contextmanager
    def timeit(self, name: str, *, tags: _Tags = None, sample_rate: float | None = None) -> Iterator[None]:
        """Report how long the block took."""
        start = perf_counter()
        try:
            yield
        finally:
            self.timing(name, value=int((perf_counter() - start) * 1000), tags=tags, sample_rate=sample_rate)


def get_statsd_client(address: str = "udp://127.0.0.1:8125", **options: Any) -> Client:
    """Return a client for an address such as ``udp://localhost:8125``; ValueError when it is none."""
    from urllib.parse import urlsplit

    parts = urlsplit(address if "://" in address else f"udp://{address}")
    try:
        port = parts.port or 8125
    except ValueError:
        raise ValueError(f"--statsd-address {address!r} has no usable port") from None
    if not parts.hostname:
        raise ValueError(f"--statsd-address {address!r} names no host: use udp://HOST:PORT")
    return Client(host=parts.hostname, port=port, **options)
