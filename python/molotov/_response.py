"""The native response's less-used attributes, each a function of the response.

The native class has a descriptor for each of ATTRIBUTES, which calls what stands there; values that
must stay the same object (cookies, content) are kept in the response's own `__dict__`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any

from molotov import _errors

__all__ = ["ATTRIBUTES", "attribute"]

_LINK = re.compile(r"\s*<(.*)>(.*)")
_LINK_PARAMETER = re.compile(r"^([^\s=]+)\s*=\s*(?:(['\"])(.*?)\2|(\S*))$", re.M)


_JSON_TYPE = re.compile(r"^application/(?:[\w.+-]+?\+)?json")


def _kept(response: Any, name: str, make: Callable[[], Any]) -> Any:
    """Make a value once and leave it in the response's __dict__, where lookups find it first."""
    value = response.__dict__[name] = make()
    return value


def cookies(response: Any) -> Any:
    """Give the cookies this response set, as a SimpleCookie."""
    return _kept(response, "cookies", lambda: _parse_cookies(response.headers.getall("Set-Cookie", ())))


def _parse_cookies(headers: Any) -> Any:
    from http.cookies import CookieError, SimpleCookie

    found: SimpleCookie = SimpleCookie()
    if not headers:
        return found
    try:
        from aiohttp._cookie_helpers import parse_set_cookie_headers
    except ImportError:  # aiohttp before 3.12
        for header in headers:
            try:
                found.load(header)
            except CookieError:
                continue
        return found
    found.update(parse_set_cookie_headers(tuple(headers)))
    return found


def links(response: Any) -> Any:
    """Give the Link headers, by relation, as aiohttp's MultiDictProxy of MultiDictProxy."""
    from multidict import MultiDict, MultiDictProxy
    from yarl import URL

    found: Any = MultiDict()
    text = ", ".join(response.headers.getall("Link", ()))
    for value in re.split(r",(?=\s*<)", text) if text else ():
        match = _LINK.match(value)
        if match is None:
            continue
        target, parameters = match.groups()
        link: Any = MultiDict()
        for parameter in parameters.split(";")[1:]:
            parts = _LINK_PARAMETER.match(parameter.strip())
            if parts is None:
                continue
            name, _, quoted, bare = parts.groups()
            link.add(name, bare if quoted is None else quoted)
        relation = link.get("rel", target)
        link.add("url", response.url.join(URL(target)))
        found.add(str(relation), MultiDictProxy(link))
    return MultiDictProxy(found)


def content(response: Any) -> Any:
    """Give the body as a stream."""
    from molotov._content import StreamReader

    return _kept(response, "content", lambda: StreamReader(response))


def content_disposition(response: Any) -> Any:
    """Give the parsed Content-Disposition header, or None."""
    raw = response.headers.get("Content-Disposition")
    if raw is None:
        return None
    from types import MappingProxyType

    from aiohttp.client_reqrep import ContentDisposition
    from aiohttp.multipart import content_disposition_filename, parse_content_disposition

    kind, parameters = parse_content_disposition(raw)
    proxy = MappingProxyType(parameters)
    return ContentDisposition(kind, proxy, content_disposition_filename(proxy))


def content_length(response: Any) -> int | None:
    """Give the Content-Length header as a number, or None."""
    value = response.headers.get("Content-Length")
    return None if value is None else int(value)


def get_encoding(response: Any) -> Callable[[], str]:
    """Give the method that tells which encoding text() uses."""
    return lambda: encoding_of(response)


def encoding_of(response: Any, body: bytes | None = None) -> str:
    """Tell the body's encoding: the charset named, utf-8 for JSON, else utf-8 once the body is read.

    Raises RuntimeError when it would have to guess from a body that was not read.
    """
    from email.message import Message

    value = response.headers.get("Content-Type", "").lower()
    message = Message()
    message["Content-Type"] = value
    charset = message.get_param("charset") if value else None
    if isinstance(charset, str) and charset:
        try:
            return codecs.lookup(charset).name
        except (LookupError, ValueError):
            pass
    # Not from the message, where bytes that are no text make it an object of another class.
    kind = value.partition(";")[0].strip()
    if kind in ("application/json", "application/rdap") or re.fullmatch(r"application/(json|rdap)\+.*", kind):
        return "utf-8"
    if body is None:
        body = response._body
        if body is None:
            raise RuntimeError("Cannot compute fallback encoding of a not yet read body")
    resolve = response._session._resolve_charset
    return "utf-8" if resolve is None else resolve(response, body)


def wait_for_close(response: Any) -> Callable[[], Any]:
    """Give the coroutine function that releases the connection."""

    async def wait_for_close() -> None:
        response.release()

    return wait_for_close


class Connection:
    """Stands for the connection of a response that is still being read."""

    transport = None
    protocol = None

    def __init__(self, response: Any) -> None:
        self._response = response

    @property
    def closed(self) -> bool:
        """Whether the connection left this response."""
        closed: bool = self._response.closed
        return closed

    def close(self) -> None:
        """Close the connection."""
        self._response.close()

    def release(self) -> None:
        """Give the connection back."""
        self._response.release()

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Refuse: the engine tells nobody about released connections."""
        raise NotImplementedError("callbacks on a native connection")


def connection(response: Any) -> Connection | None:
    """Give the connection while the body is unread; None once it was released."""
    return None if response.closed else Connection(response)


def request(response: Any) -> Any:
    """Give the request this response answers; describe it when the native path sent it."""
    from molotov._tracing import RequestView

    info = response.request_info
    return _kept(response, "request", lambda: RequestView(info.method, info.url, info.headers))


def url_obj(response: Any) -> Any:
    """Give the URL, by its old name."""
    return response.url


def start(response: Any) -> Any:
    """Give the method that reads the head: it has been read."""

    async def start(connection: Any) -> Any:
        return response

    return start


def _raw_cookie_headers(response: Any) -> tuple[str, ...] | None:
    return tuple(response.headers.getall("Set-Cookie", ())) or None


def _request_info(response: Any) -> Any:
    return response.request_info


def _headers(response: Any) -> Any:
    return response.headers


def _raw_headers(response: Any) -> Any:
    return response.raw_headers


def _cache(response: Any) -> dict[str, Any]:
    cache: dict[str, Any] = _kept(response, "_cache", dict)
    return cache


#: Attribute name -> what makes it. Methods are functions that give a callable.
ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    made.__name__: made
    for made in (
        cookies,
        links,
        content,
        content_disposition,
        content_length,
        get_encoding,
        wait_for_close,
        connection,
        request,
        url_obj,
        start,
        _raw_cookie_headers,
        _request_info,
        _headers,
        _raw_headers,
        _cache,
    )
}


def attribute(response: Any, name: str) -> Any:
    """Give a cold attribute of a response; AttributeError as aiohttp's when there is none."""
    maker = ATTRIBUTES.get(name)
    if maker is None:
        raise AttributeError(f"'ClientResponse' object has no attribute {name!r}")
    return maker(response)


async def wrong_content_type(response: Any, found: str) -> Any:
    """Fail as json() does on another media type: after the body was read, which stays readable."""
    await response.read()
    raise _errors.make(
        "content_type",
        response=response,
        message=f"Attempt to decode JSON with unexpected mimetype: {_content_type_header(response)}",
    )


def _content_type_header(response: Any) -> str:
    header: str = response.headers.get("Content-Type", "")
    return header.lower()


def partly_read(response: Any, stream: Any) -> None:
    """Let read(), text() and json() go on where a stream's reader stopped, as aiohttp's do.

    Called when the first piece leaves the connection through `response.content`.
    """
    rest: list[bytes] = []

    async def read() -> bytes:
        if not rest:
            rest.append(await stream.read())
        elif response.closed and stream.exception() is not None:
            raise _errors.make("connection_closed")
        return rest[0]

    _read_by(response, read)


def tell_reads(response: Any, traces: list[Any]) -> None:
    """Tell these traces of the body once it is read."""
    told = False

    async def read() -> bytes:
        nonlocal told
        body: bytes = await type(response).read(response)
        if not told:
            told = True
            for trace in traces:
                await trace.send_response_chunk_received(response.method, response.url, body)
        return body

    _read_by(response, read)


def read_in_python(response: Any) -> None:
    """Let text() and json() ask the session's fallback_charset_resolver for the encoding."""
    if "read" not in response.__dict__:
        _read_by(response, lambda: type(response).read(response))


def _read_by(response: Any, read: Callable[[], Any]) -> None:
    """Replace the native readers of the body by Python ones over this one."""

    async def body() -> bytes:
        known: bytes | None = response._body
        if known is None:
            known = await read()
        return known

    async def text(encoding: str | None = None, errors: str = "strict") -> str:
        data = await body()
        return data.decode(encoding or encoding_of(response, data), errors)

    async def json(
        *,
        encoding: str | None = None,
        loads: Callable[[str], Any] | None = None,
        content_type: str | None = "application/json",
    ) -> Any:
        import json as json_module

        data = (await body()).strip()
        header = _content_type_header(response)
        expected = content_type or ""
        found = _JSON_TYPE.match(header) if expected == "application/json" else expected in header
        if not found:
            await wrong_content_type(response, header)
        if not data:
            return None
        return (loads or json_module.loads)(data.decode(encoding or encoding_of(response, data)))

    response.__dict__.update(read=read, text=text, json=json)
