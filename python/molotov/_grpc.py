"""The built-in ``grpc`` kind of session: an insecure grpcio channel (``pip install molotov-rs[grpc]``)."""

from __future__ import annotations

from typing import Any


def grpc_session(
    loop: Any, console: Any, verbose: int, statsd: Any, trace_config: Any, **options: Any
) -> Any:
    """Return an asyncio channel to the scenario's ``grpc_url``; KeyError when it declares none."""
    try:
        from grpc import aio  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("scenarios of kind grpc need grpcio: pip install molotov-rs[grpc]") from None

    channel: Any = aio.insecure_channel(options["grpc_url"])
    channel._trace_configs = [trace_config]
    channel.print = print if console is None else console.print
    return channel
