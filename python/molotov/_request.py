"""The slow path: one request with everything aiohttp's `_request` accepts, on the native connections.

Called by ClientSession._request for what the native fast path leaves alone. The request itself
(URL quoting, header order, body, content type) is prepared by aiohttp's own ClientRequest; hops,
redirects, cookies, credentials, events and timeouts are here; one exchange on the wire is native.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

from molotov import _body, _errors, _proxy, _redirect, _ssl, _tracing
from molotov._arguments import LIMITS, seconds
from molotov._traces import Told

if TYPE_CHECKING:
    from molotov.session import ClientSession

__all__ = ["foreign_proxy", "perform"]

#: Arguments of a single request that only aiohttp itself can honour, with the reason that is logged.
_FOREIGN = {
    "upload_tracker": "an upload tracker",
}
_DEFAULTS: dict[str, Any] = {
    "allow_redirects": True,
    "max_redirects": 10,
    "read_until_eof": True,
    "ssl": True,
}
_POST_METHODS = frozenset({"PATCH", "POST", "PUT"})


async def perform(session: ClientSession, method: str, str_or_url: Any, call: dict[str, Any]) -> Any:
    """Send a request and follow its redirects; `call` holds every keyword argument of aiohttp's request.

    Raises what aiohttp raises. `timeout` is missing from `call` when the session's applies.
    """
    tracker = call["upload_tracker"]
    if session.closed:
        if tracker is not None:
            tracker._bind()
            tracker._finalize()
        raise RuntimeError("Session is closed")
    if call["chunked"] is not None and not isinstance(call["chunked"], bool):
        warnings.warn("Chunk size is deprecated #1615", DeprecationWarning, stacklevel=4)
    reason = session._foreign_reason
    if reason is not None:
        return await _by_aiohttp(session, "this session is", reason, method, str_or_url, call)
    reason = _foreign(session, method, str_or_url, call)
    if reason is not None:
        return await _by_aiohttp(session, "some requests are", reason, method, str_or_url, call)
    tls = _ssl.merge(call["ssl"], call["verify_ssl"], call["ssl_context"], call["fingerprint"])
    if tls is True:
        tls = session._settings.ssl
    try:
        settings = _ssl.read(tls, call["server_hostname"])
    except _ssl.Unreadable as unreadable:
        return await _by_aiohttp(session, "some requests are", str(unreadable), method, str_or_url, call)
    return await _Request(session, method.upper(), str_or_url, call, tls, settings).run()


def _foreign(session: ClientSession, method: str, url: Any, call: dict[str, Any]) -> str | None:
    """Name what in this call only aiohttp can do, or None."""
    for name, reason in _FOREIGN.items():
        if call[name]:
            return reason
    if method.upper() == "CONNECT":
        return "the CONNECT method"
    if str(url).lower().startswith(("tcp:", "unix:")):
        return "a local socket as URL" if str(url).lower().startswith("unix:") else "a tcp: URL"
    return foreign_proxy(session, call["proxy"])


def foreign_proxy(session: ClientSession, proxy: Any) -> str | None:
    """Name what about a call's proxy, or its session's, only aiohttp can do, or None."""
    if proxy is None:
        proxy = session._default_proxy
    if proxy is None:
        return None
    if session._settings.unix is not None:
        return "a proxy behind a local socket"
    scheme = _proxy.parse(proxy).scheme
    return None if scheme in _proxy.NATIVE_SCHEMES else f"a {scheme or 'proxy without a'} proxy"


async def _by_aiohttp(
    session: ClientSession, what: str, reason: str, method: str, url: Any, call: dict[str, Any]
) -> Any:
    from molotov import _fallback

    _fallback.announce(what, reason)
    given = {
        name: value
        for name, value in call.items()
        if name == "timeout" or (value is not None and value is not _DEFAULTS.get(name))
    }
    if call["expect100"] is False:
        given.pop("expect100", None)
    response = await _fallback.session_for(session)._request(method, url, **given)
    _fallback.count(session, response)
    return response


class _Request:
    """One call of the script: its hops share deadline, headers, cookies and history."""

    def __init__(
        self,
        session: ClientSession,
        method: str,
        str_or_url: Any,
        call: dict[str, Any],
        tls: Any,
        settings: Any,
    ) -> None:
        # The first call imports aiohttp: that must not count against its timeout.
        _tracing.logged_client_request()
        self.session = session
        self.method = method
        self.call = call
        self.tls = tls
        #: What the call itself said: connection errors show it.
        self.tls_given = _ssl.merge(call["ssl"], call["verify_ssl"], call["ssl_context"], call["fingerprint"])
        self.settings = settings
        self.cookies = call["cookies"]
        self.auth = call["auth"]
        self.params = call["params"] or {}
        self.data = _data(session, call)
        self.headers = session._prepare_headers(call["headers"])
        self.url = self._parse(str_or_url)
        self.skip_headers = _skipped(session, call["skip_auto_headers"])
        self.proxy = session._default_proxy if call["proxy"] is None else call["proxy"]
        self.proxy_auth = session._default_proxy_auth if call["proxy_auth"] is None else call["proxy_auth"]
        self.proxy_headers = None
        if self.proxy is not None:
            self.proxy = _proxy.parse(self.proxy)
            self.proxy_headers = session._prepare_headers(call["proxy_headers"])
        timeout = call["timeout"] if "timeout" in call else session._timeout_given
        if type(timeout).__name__ == "_SENTINEL":
            timeout = session._timeout_given
        self.total, self.connect, self.sock_connect, self.sock_read = seconds(timeout)
        self.deadline = None if self.total is None else session._loop.time() + self.total
        self.history: list[Any] = []
        self.first_origin: Any = None
        self.request: Any = None
        configs = [trace for trace in session._trace_configs if trace is not session._tracer]
        self.told = Told(session, configs, call["trace_request_ctx"])
        middlewares = call["middlewares"]
        self.middlewares = session._middlewares if middlewares is None else middlewares
        self.reading = _reading(session, call)
        self.again = False

    def _parse(self, str_or_url: Any) -> Any:
        try:
            url = self.session._build_url(str_or_url)
        except ValueError as error:
            raise _errors.make("invalid_url", url=str_or_url) from error
        if url.scheme not in ("http", "https", "ws", "wss", ""):
            raise _errors.make("non_http_url", url=url)
        return url

    async def run(self) -> Any:
        """Go through the hops; give the last response with its history."""
        tracer, told = self.session._tracer, self.told
        began = None
        response = None
        try:
            if told:
                await told.start(self.method, self.full_url(), self.headers)
            if tracer is not None:
                began = tracer.request_started(self.method, self.full_url())
            while True:
                response = await self._hop()
                if not (self.call["allow_redirects"] and response.status in _redirect.STATUSES):
                    break
                if told:
                    await told.redirected(self.method, self.full_url(), self.headers, response)
                if not await _redirect.follow(self, response):
                    break
            await _close_body(self.request)
            await self._check_status(response)
            response._history = tuple(self.history)
            if tracer is not None:
                await tracer.request_ended(began, response, self.request)
            if told:
                await told.ended(self.method, self.full_url(), self.headers, response)
            return response
        except BaseException as error:
            if response is not None:
                response.close()
            if self.request is not None:
                await _stop_writing(self.request)
                await _close_body(self.request)
            if told:
                await told.failed(self.method, self.full_url(), self.headers, error)
            raise

    def full_url(self) -> Any:
        """Give the present hop's URL with the call's params, as traces are told it."""
        return self.url.update_query(self.params)

    async def _hop(self) -> Any:
        """Prepare and send one request, through the middlewares; store the cookies of its answer."""
        request = self.request = await self._prepare()
        send: Any = self._send
        if self.middlewares:
            from aiohttp.client_middlewares import build_client_middlewares

            send = build_client_middlewares(send, self.middlewares)
        try:
            response = await self._sent(send, request)
        except OSError as error:
            if not self.middlewares or isinstance(error, _errors.client_error()):
                raise
            if error.errno is None and isinstance(error, TimeoutError):
                raise
            raise _errors.make("raw_os_error", arguments=error.args) from error
        try:
            received = response.headers.getall("Set-Cookie", ())
            if received:
                _store_cookies(self.session.cookie_jar, received, response.url)
        except BaseException:
            response.close()
            raise
        return response

    async def _sent(self, send: Any, request: Any) -> Any:
        """Send it; once more when a kept connection had gone and its streamed body can be read again."""
        try:
            return await send(request)
        except Exception as error:
            if not getattr(error, "_molotov_resendable", False):
                raise
            await _stop_writing(request)
            body = getattr(request, "_body", None)
            if body is None or getattr(body, "consumed", True):
                raise
            self.again = True
        try:
            return await send(request)
        finally:
            self.again = False

    async def _send(self, request: Any) -> Any:
        """Announce one request and do its exchange; a middleware may call this more than once."""
        tracer, told = self.session._tracer, self.told
        request.tracer = tracer
        proxy = _proxy.way(request)
        reserved = None
        if tracer is not None and tracer.listening:
            reserved = await self._announce(request, tracer, proxy)
        self._finish_headers(request)
        body, chunks = _body.outgoing(request)
        total = self._time_left(request)
        if told:
            told.prepare()
            if chunks is not None:
                chunks = told.streamed(request, chunks)
        try:
            response = await self.session._exchange(
                request.method,
                str(request.url),
                list(request.headers.items()),
                body,
                total=total,
                connect=self.connect,
                sock_connect=self.sock_connect,
                sock_read=self.sock_read,
                ssl=self.settings,
                chunks=chunks,
                proxy=proxy,
                expect=request._continue is not None,
                again=self.again,
                on=reserved,
                **self.reading,
            )
        except Exception as error:
            _errors.complete_key(error, request, self.tls_given, self.call["server_hostname"])
            if told and not isinstance(error, _errors.never_sent()):
                await told.sent(request, body)
            raise
        response.request = request
        response._real_url = request.original_url
        if told:
            await told.sent(request, body)
            told.follow_body(response)
        if self.session._resolve_charset is not None:
            from molotov._response import read_in_python

            read_in_python(response)
        if "high_water" in self.reading:
            response.__dict__["_read_bufsize"] = self.reading["high_water"] // 2
        return response

    def _time_left(self, request: Any) -> float | None:
        """Tell how many seconds are left for all of it; None without a limit."""
        if self.deadline is None:
            return None
        left: float = self.deadline - self.session._loop.time()
        if left <= 0:
            raise _errors.make("timeout_total", url=request.url)
        return left

    async def _announce(self, request: Any, tracer: Any, proxy: Any) -> Any:
        """Tell listeners of a request once its connection is there; give that, to send it on."""
        try:
            reserved = await self.session._exchange(
                request.method,
                str(request.url),
                [],
                total=self._time_left(request),
                connect=self.connect,
                sock_connect=self.sock_connect,
                ssl=self.settings,
                proxy=proxy,
                again=self.again,
                reserve=True,
            )
        except Exception as error:
            _errors.complete_key(error, request, self.tls_given, self.call["server_hostname"])
            raise
        try:
            await tracer.send_event("sending_request", request=request)
        except BaseException:
            reserved.release()
            raise
        return reserved

    async def _prepare(self) -> Any:
        """Build aiohttp's request object for the current hop."""
        from aiohttp.helpers import strip_auth_from_url

        self.url, url_auth = strip_auth_from_url(self.url)
        if not _redirect.possible_host(self.url.raw_host):
            kind = "invalid_redirect" if self.history else "invalid_url"
            raise _errors.make(kind, url=self.url)
        auth = self._credentials(url_auth)
        if auth is not None and "Authorization" in self.headers:
            raise ValueError(
                "Cannot combine AUTHORIZATION header with AUTH argument or credentials encoded in URL"
            )
        cookies = self.session.cookie_jar.filter_cookies(self.url)
        if self.cookies is not None:
            extra = _request_cookies(self.session.cookie_jar, self.cookies, self.url)
            if extra:
                cookies.load(extra)
        proxy, proxy_auth = self.proxy, self.proxy_auth
        if proxy is None and self.session._trust_env:
            found = _proxy.from_environment(self.url)
            if found is not None:
                # As in aiohttp, the credentials of one hop's proxy are the next one's default.
                proxy, self.proxy_auth = found
                proxy_auth = self.proxy_auth
        return _tracing.logged_client_request()(
            self.method,
            self.url,
            params=self.params,
            headers=self.headers,
            skip_auto_headers=self.skip_headers,
            data=self.data,
            cookies=cookies,
            auth=auth,
            version=_version(),
            compress=self.call["compress"],
            chunked=self.call["chunked"],
            expect100=self.call["expect100"],
            proxy=proxy,
            proxy_auth=proxy_auth,
            proxy_headers=self.proxy_headers,
            loop=self.session._loop,
            session=self.session,
            ssl=self.tls,
            traces=[],
            trust_env=False,
        )

    def _credentials(self, url_auth: Any) -> Any:
        """Choose the hop's credentials: the call's, the URL's, or the session's on its own origin."""
        if not self.history and self.auth and url_auth:
            raise ValueError("Cannot combine AUTH argument with credentials encoded in URL")
        if self.auth is None or (self.history and url_auth is not None):
            self.auth = url_auth
        if self.auth is not None:
            return self.auth
        session = self.session
        origin = self.url.origin()
        if self.first_origin is None:
            self.first_origin = session._base_url_origin or origin
        # Unlike aiohttp, the session's credentials never follow a redirect to another origin.
        if session._default_auth and origin == self.first_origin:
            self.auth = session._default_auth
        if self.auth is None and session._trust_env and self.url.host is not None:
            self.auth = _proxy.netrc_credentials(self.url.host)
        return self.auth

    def _finish_headers(self, request: Any) -> None:
        """Add what aiohttp adds as it sends, and refuse what would split the head."""
        headers = request.headers
        if (
            request.method in _POST_METHODS
            and "content-type" not in self.skip_headers
            and "Content-Type" not in headers
        ):
            headers["Content-Type"] = "application/octet-stream"
        if self.session._settings.force_close and "Connection" not in headers:
            headers["Connection"] = "close"
        # aiohttp's own serializer refuses values that are no strings or would split the head.
        from aiohttp.http_writer import _serialize_headers

        _serialize_headers("", headers)

    async def _check_status(self, response: Any) -> None:
        check = self.call["raise_for_status"]
        if check is None:
            check = self.session._raise_for_status
        if callable(check):
            await check(response)
        elif check:
            response.raise_for_status()


def _data(session: ClientSession, call: dict[str, Any]) -> Any:
    """Give the body argument; `json=` becomes aiohttp's JSON payload."""
    data, json = call["data"], call["json"]
    if json is None:
        return data
    if data is not None:
        raise ValueError("data and json parameters can not be used at the same time")
    if session._json_serialize_bytes is not None:
        from aiohttp.payload import JsonBytesPayload

        return JsonBytesPayload(json, dumps=session._json_serialize_bytes)
    from aiohttp.payload import JsonPayload

    return JsonPayload(json, dumps=session._json_serialize)


def _skipped(session: ClientSession, names: Any) -> frozenset[str]:
    return frozenset(str(name).lower() for name in (*(names or ()), *session._skip_auto_headers))


def _reading(session: ClientSession, call: dict[str, Any]) -> dict[str, Any]:
    """Say how the answer is to be read, where that is not the usual way: keywords of `_exchange`."""
    reading: dict[str, Any] = {}
    decompress = call["auto_decompress"]
    if not (session._auto_decompress if decompress is None else decompress):
        reading["decompress"] = False
    if not call["read_until_eof"]:
        reading["until_eof"] = False
    limits = tuple(getattr(session, f"_{name}") if call[name] is None else call[name] for name in LIMITS)
    if limits != tuple(LIMITS.values()):
        reading["limits"] = limits
    read_bufsize = call["read_bufsize"] or session._read_bufsize
    if read_bufsize is not None:
        reading["high_water"] = 2 * read_bufsize
    return reading


def _version() -> Any:
    from aiohttp import HttpVersion11

    return HttpVersion11


def _request_cookies(jar: Any, cookies: Any, url: Any) -> Any:
    """Filter one call's cookies by the session jar's rules."""
    from aiohttp import CookieJar, client

    # What a script asks for in so many words is not subject to a jar's bounds.
    own = getattr(client, "_UnlimitedCookieJar", CookieJar)(
        unsafe=getattr(jar, "unsafe", getattr(jar, "_unsafe", False)),
        quote_cookie=getattr(jar, "quote_cookie", getattr(jar, "_quote_cookie", True)),
        treat_as_secure_origin=list(
            getattr(jar, "treat_as_secure_origin", getattr(jar, "_treat_as_secure_origin", ()))
        )
        or None,
    )
    own.update_cookies(cookies)
    return own.filter_cookies(url)


def _store_cookies(jar: Any, received: list[str], url: Any) -> None:
    update = getattr(jar, "update_cookies_from_headers", None)
    if update is not None:
        update(received, url)
        return
    # Before aiohttp 3.12 a jar takes parsed cookies.
    from http.cookies import SimpleCookie

    for header in received:
        jar.update_cookies(SimpleCookie(header), url)


async def _close_body(request: Any) -> None:
    close = getattr(getattr(request, "_body", None), "close", None)
    if close is not None:
        await close()


async def _stop_writing(request: Any) -> None:
    """Wait until nobody reads the body's source any more."""
    writing = getattr(request, "molotov_writing", None)
    if writing is not None and not writing.done():
        writing.cancel()
        await asyncio.wait([writing])
