"""Turn the engine's failures into the exceptions that scripts catch: aiohttp's own classes.

Called by the native session and by the Python slow path when something has already failed,
so importing aiohttp here costs nothing that a working request would pay.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["complete_key", "make", "reserve"]

# Descriptors held back for the import of aiohttp: the first error may be that none is left.
_RESERVED = 6
_reserved: list[int] = []


def reserve() -> None:
    """Hold back the file descriptors that the first exception will need; does nothing without any left."""
    if _reserved or "aiohttp.client_exceptions" in sys.modules:
        return
    try:
        for _ in range(_RESERVED):
            _reserved.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        _release()


def _release() -> None:
    while _reserved:
        os.close(_reserved.pop())


def _connection_key(host: str, port: int | None, is_ssl: bool, ssl: Any) -> Any:
    """Build aiohttp's ConnectionKey, whose fields differ between its versions."""
    from aiohttp.client_reqrep import ConnectionKey

    known: Any = {"host": host, "port": port, "is_ssl": is_ssl, "ssl": ssl}
    fields: Any = getattr(ConnectionKey, "_fields", None)
    if fields is None:  # an attrs class in some versions
        fields = [attribute.name for attribute in ConnectionKey.__attrs_attrs__]  # type: ignore[attr-defined]
    return ConnectionKey(**{name: known.get(name) for name in fields})


def _key(details: dict[str, Any]) -> Any:
    ssl = details.get("ssl", True)
    is_ssl = bool(details.get("is_ssl", details.get("tls", False)))
    # The engine knows "no verification" and "default" as booleans; objects come from the script.
    return _connection_key(details.get("host", ""), details.get("port"), is_ssl, True if ssl is None else ssl)


def request_info(url: Any, method: str, headers: Any, real_url: Any = None) -> Any:
    """Build aiohttp.RequestInfo from plain values; strings become yarl URLs and a CIMultiDictProxy."""
    from aiohttp import RequestInfo
    from multidict import CIMultiDict, CIMultiDictProxy
    from yarl import URL

    if not isinstance(url, URL):
        url = URL(str(url), encoded=True)
    if real_url is None:
        real_url = url
    elif not isinstance(real_url, URL):
        real_url = URL(str(real_url), encoded=True)
    if not isinstance(headers, CIMultiDictProxy):
        headers = CIMultiDictProxy(
            headers if isinstance(headers, CIMultiDict) else CIMultiDict(headers or ())
        )
    return RequestInfo(url.with_fragment(None), method, headers, real_url)


def _info(details: dict[str, Any]) -> Any:
    ready = details.get("request_info")
    if ready is not None:
        return ready
    return request_info(
        details.get("url", ""),
        details.get("method", "GET"),
        details.get("headers", ()),
        details.get("real_url"),
    )


#: What the C library says, with its EAI_ number.
_RESOLVER_ERRORS = {
    "Name or service not known": socket.EAI_NONAME,
    "Temporary failure in name resolution": socket.EAI_AGAIN,
    "No address associated with hostname": getattr(socket, "EAI_NODATA", socket.EAI_NONAME),
}


def _dns(details: dict[str, Any]) -> BaseException:
    import aiohttp

    cause = details.get("os_error")
    if not isinstance(cause, OSError):
        text = str(cause or details.get("strerror") or "Name or service not known")
        # Rust's wording around the resolver's own.
        text = text.removeprefix("failed to lookup address information: ")
        number = details.get("errno")
        cause = socket.gaierror(
            _RESOLVER_ERRORS.get(text, socket.EAI_NONAME) if number is None else number, text
        )
    made = getattr(aiohttp, "ClientConnectorDNSError", aiohttp.ClientConnectorError)(_key(details), cause)
    made.__cause__ = cause
    return made


#: socket() itself fails with these: there was no connect() to speak of.
_NO_SOCKET = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def _connect(details: dict[str, Any]) -> BaseException:
    import aiohttp

    number = details.get("errno")
    # `detail` has the wording of asyncio's sock_connect, which scripts see through aiohttp.
    text = details.get("detail") or details.get("strerror") or (os.strerror(number) if number else "")
    if number in _NO_SOCKET:
        text = os.strerror(number)
    # What asyncio has for a peer that leaves in the middle of a handshake.
    cause = ConnectionResetError() if details.get("reset") else OSError(number, text)
    made = aiohttp.ClientConnectorError(_key(details), cause)
    made.__cause__ = cause
    return made


def _proxy(details: dict[str, Any]) -> BaseException:
    import aiohttp

    cause = _connect(details).__cause__
    assert isinstance(cause, OSError)
    made = aiohttp.ClientProxyConnectionError(_key(details), cause)
    made.__cause__ = cause
    return made


def _proxy_refused(details: dict[str, Any]) -> BaseException:
    import aiohttp
    from multidict import CIMultiDict, CIMultiDictProxy

    return aiohttp.ClientHttpProxyError(
        _info(details),
        (),
        status=details["status"],
        message=details.get("message", ""),
        headers=CIMultiDictProxy(CIMultiDict(details.get("response_headers", ()))),
    )


def _unix(details: dict[str, Any]) -> BaseException:
    from aiohttp.client_exceptions import UnixClientConnectorError

    number = details.get("errno")
    cause = OSError(number, os.strerror(number) if number else details.get("strerror", ""))
    made = UnixClientConnectorError(details["path"], _key(details), cause)
    made.__cause__ = cause
    return made


def complete_key(error: BaseException, request: Any, ssl: Any, server_hostname: str | None) -> None:
    """Let a connector's error tell what the script asked for: proxy, server's name and `ssl`.

    `request` is an aiohttp request. A failed connection to the proxy itself is that of another request in
    aiohttp, one without a proxy.
    """
    key = getattr(error, "_conn_key", None)
    if key is None or not hasattr(key, "_replace"):
        return
    if request.proxy_headers is not None and "Host" in request.headers:
        # aiohttp's connector puts it there, and the key has a hash of them.
        request.proxy_headers["Host"] = request.headers["Host"]
    wanted = request.connection_key
    if (key.host, key.port) == (wanted.host, wanted.port):
        key = wanted
    if "server_hostname" in key._fields:
        key = key._replace(server_hostname=server_hostname)
    error._conn_key = key._replace(ssl=ssl)  # type: ignore[attr-defined]


def _tls(details: dict[str, Any]) -> BaseException:
    import ssl

    import aiohttp

    cause = ssl.SSLError(details.get("errno", 1), details.get("message", "TLS handshake failed"))
    made = aiohttp.ClientConnectorSSLError(_key({**details, "is_ssl": True}), cause)
    made.__cause__ = cause
    return made


def _tls_certificate(details: dict[str, Any]) -> BaseException:
    import ssl

    import aiohttp

    message = details.get("message", "certificate verify failed")
    if "certificate verify failed" not in message:
        message = f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}"
    cause = ssl.SSLCertVerificationError(1, message)
    made = aiohttp.ClientConnectorCertificateError(_key({**details, "is_ssl": True}), cause)
    made.__cause__ = cause
    return made


def _fingerprint(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return aiohttp.ServerFingerprintMismatch(
        bytes(details["expected"]), bytes(details["got"]), details.get("host", ""), details.get("port", 0)
    )


def _timeout_total(details: dict[str, Any]) -> BaseException:
    return asyncio.TimeoutError()


def _timeout_connect(details: dict[str, Any]) -> BaseException:
    import aiohttp

    made = getattr(aiohttp, "ConnectionTimeoutError", aiohttp.ServerTimeoutError)
    where = details.get("url") or details.get("host", "")
    return made(f"Connection timeout to host {where}")


def _timeout_sock_read(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return getattr(aiohttp, "SocketTimeoutError", aiohttp.ServerTimeoutError)(
        "Timeout on reading data from socket"
    )


def _disconnected(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return aiohttp.ServerDisconnectedError(details.get("message"))


def _os_error(details: dict[str, Any]) -> BaseException:
    import aiohttp

    number = details.get("errno")
    text = details.get("strerror") or (os.strerror(number) if number else "")
    cause = OSError(number, text)
    made = aiohttp.ClientOSError(number, text)
    made.__cause__ = cause
    return made


def _raw_os_error(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return aiohttp.ClientOSError(*details["arguments"])


def _bad_response(details: dict[str, Any]) -> BaseException:
    import aiohttp
    from aiohttp.http_exceptions import BadHttpMessage

    message = details.get("message", "Bad Request")
    made = aiohttp.ClientResponseError(
        _info(details),
        tuple(details.get("history", ())),
        status=details.get("status", 400),
        message=message,
        headers=details.get("response_headers"),
    )
    made.__cause__ = BadHttpMessage(message)
    return made


def _payload(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return aiohttp.ClientPayloadError(details.get("message", "Response payload is not completed"))


def _invalid_url(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return getattr(aiohttp, "InvalidUrlClientError", aiohttp.InvalidURL)(_url(details))


def _odd_address(details: dict[str, Any]) -> BaseException:
    import aiohttp

    made = getattr(aiohttp, "InvalidUrlClientError", None)
    return aiohttp.InvalidURL(details["url"]) if made is None else made(details["url"], details["message"])


def _non_http_url(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return getattr(aiohttp, "NonHttpUrlClientError", aiohttp.InvalidURL)(_url(details))


def _invalid_redirect(details: dict[str, Any]) -> BaseException:
    import aiohttp

    made = getattr(aiohttp, "InvalidUrlRedirectClientError", aiohttp.InvalidURL)
    reason = details.get("message")
    # The class with a description came with aiohttp 3.10.
    described = reason and made is not aiohttp.InvalidURL
    return made(details["url"], reason) if described else made(details["url"])


def _non_http_redirect(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return getattr(aiohttp, "NonHttpUrlRedirectClientError", aiohttp.InvalidURL)(details["url"])


def _url(details: dict[str, Any]) -> Any:
    """Give the URL as aiohttp would hold it: what the caller passed, parsed where it can be."""
    from yarl import URL

    url = details.get("url", "")
    if isinstance(url, str):
        try:
            return URL(url)
        except ValueError:
            return url
    return url


def _connection_closed(details: dict[str, Any]) -> BaseException:
    import aiohttp

    return aiohttp.ClientConnectionError(details.get("message") or "Connection closed")


def _of_response(name: str, details: dict[str, Any]) -> BaseException:
    import aiohttp

    response = details["response"]
    message = details.get("message")
    made: BaseException = getattr(aiohttp, name)(
        response.request_info,
        tuple(response.history),
        status=response.status,
        message=(response.reason or "") if message is None else message,
        headers=response.headers,
    )
    return made


def _content_type(details: dict[str, Any]) -> BaseException:
    return _of_response("ContentTypeError", details)


def _status(details: dict[str, Any]) -> BaseException:
    return _of_response("ClientResponseError", details)


def _too_many_redirects(details: dict[str, Any]) -> BaseException:
    import aiohttp

    history: Iterable[Any] = details.get("history") or ()
    history = tuple(history)
    info = history[0].request_info if history else _info(details)
    return aiohttp.TooManyRedirects(info, history)


_MAKERS: dict[str, Callable[[dict[str, Any]], BaseException]] = {
    "dns": _dns,
    "connect": _connect,
    "proxy": _proxy,
    "proxy_refused": _proxy_refused,
    "unix": _unix,
    "tls_certificate": _tls_certificate,
    "tls": _tls,
    "fingerprint": _fingerprint,
    "timeout_total": _timeout_total,
    "timeout_connect": _timeout_connect,
    "timeout_sock_connect": _timeout_connect,
    "timeout_sock_read": _timeout_sock_read,
    "disconnected": _disconnected,
    "os_error": _os_error,
    "raw_os_error": _raw_os_error,
    "bad_response": _bad_response,
    "payload": _payload,
    "invalid_url": _invalid_url,
    "odd_address": _odd_address,
    "non_http_url": _non_http_url,
    "invalid_redirect": _invalid_redirect,
    "non_http_redirect": _non_http_redirect,
    "connection_closed": _connection_closed,
    "content_type": _content_type,
    "status": _status,
    "too_many_redirects": _too_many_redirects,
}


def client_error() -> type[BaseException]:
    """Give aiohttp.ClientError."""
    from aiohttp import ClientError

    return ClientError


def never_sent() -> tuple[type[BaseException], ...]:
    """Give the classes of failures before anything of a request was sent."""
    import aiohttp

    return (
        aiohttp.ClientConnectorError,
        getattr(aiohttp, "ConnectionTimeoutError", aiohttp.ServerTimeoutError),
    )


def make(kind: str, **details: Any) -> BaseException:
    """Build the exception aiohttp would raise for this kind of failure; it is returned, not raised.

    An unknown kind gives a plain aiohttp.ClientError that carries the details, so that a failure
    is never lost to a spelling mistake.
    """
    if _reserved:
        _release()
    maker = _MAKERS.get(kind)
    if maker is None:
        import aiohttp

        return aiohttp.ClientError(f"{kind}: {details}")
    return maker(details)
