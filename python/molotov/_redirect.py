"""aiohttp's redirect rules: what the next hop keeps of this one, and which targets are refused."""

from __future__ import annotations

from typing import Any

from molotov import _errors

__all__ = ["STATUSES", "follow", "next_url", "possible_host"]

STATUSES = frozenset({301, 302, 303, 307, 308})
_C0_OR_SPACE = "".join(map(chr, range(0x21)))
_DROPPED = str.maketrans("", "", "\t\n\r")


async def follow(call: Any, response: Any) -> bool:
    """Point `call` (a `_request._Request`) at the redirect's target; False when there is none.

    Raises TooManyRedirects, ClientPayloadError for a body that can't be sent again, and the
    redirect variants of the URL errors.
    """
    call.history.append(response)
    limit = call.call["max_redirects"]
    # Unlike aiohttp, 0 allows none rather than any number.
    if len(call.history) >= max(limit, 1):
        response.close()
        raise _errors.make("too_many_redirects", history=call.history)
    location = response.headers.get("Location") or response.headers.get("URI")
    _carry_body(call, response)
    if location is None:
        return False
    response.release()
    target = _target(call, response, location)
    if call.url.origin() != target.origin():
        call.auth = None
        call.cookies = None
        for name in ("Authorization", "Cookie", "Proxy-Authorization"):
            call.headers.popall(name, None)
    call.url = target
    call.params = {}
    return True


def _carry_body(call: Any, response: Any) -> None:
    """303 always, and 301/302 after a POST, continue as GET; everything else repeats itself."""
    status, method = response.status, response.method
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        call.method = "GET"
        call.data = None
        if call.headers.get("Content-Length"):
            call.headers.pop("Content-Length")
        return
    body = getattr(call.request, "_body", None)
    if body is None:
        return
    if getattr(body, "consumed", False):
        response.close()
        raise _errors.make(
            "payload",
            message="Cannot follow redirect with a consumed request body. "
            "Use bytes, a seekable file-like object, or set allow_redirects=False.",
        )
    call.data = body


def _target(call: Any, response: Any, location: str) -> Any:
    try:
        return resolve(call.url, location, requote=call.session._requote_redirect_url)
    except Exception:
        response.close()
        raise


def next_url(current: str, location: str) -> tuple[str, str | None]:
    """Give the encoded URL that a Location header names, for the native path; raises as resolve().

    The credentials in it are left out of it, and given as the value of an Authorization header.
    """
    from yarl import URL

    target = resolve(URL(current, encoded=True), location, requote=True)
    if target.raw_user is None and target.raw_password is None:
        return str(target), None
    from aiohttp.helpers import strip_auth_from_url

    plain, credentials = strip_auth_from_url(target)
    return str(plain), None if credentials is None else credentials.encode()


def resolve(current: Any, location: str, *, requote: bool) -> Any:
    """Give the absolute yarl URL of a Location header found at `current`.

    Raises InvalidUrlRedirectClientError or NonHttpUrlRedirectClientError.
    """
    from yarl import URL

    try:
        target = URL(location, encoded=not requote)
    except ValueError as error:
        raise _errors.make(
            "invalid_redirect",
            url=location,
            message="Server attempted redirecting to a location that does not look like a URL",
        ) from error
    scheme = target.scheme
    if scheme not in ("http", "https", ""):
        raise _errors.make("non_http_redirect", url=location)
    if not scheme or (scheme == current.scheme and _lacks_authority(location, scheme)):
        target = current.join(target)
    try:
        target.origin()
    except ValueError as error:
        raise _errors.make("invalid_redirect", url=target, message="Invalid redirect URL origin") from error
    if not possible_host(target.raw_host):
        raise _errors.make("invalid_redirect", url=target, message="Invalid redirect URL origin")
    return target


def possible_host(host: str | None) -> bool:
    """Whether a name of these lengths can exist (RFC 1035, 2.3.4); aiohttp leaves that to a codec."""
    name = (host or "").removesuffix(".")
    return len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split("."))


def _lacks_authority(location: str, scheme: str) -> bool:
    """Whether a location such as `http:/path` names no host; browsers take a backslash for a slash."""
    plain = location.strip(_C0_OR_SPACE).translate(_DROPPED)
    after = plain[len(scheme) + 1 : len(scheme) + 3]
    return len(after) < 2 or any(letter not in "/\\" for letter in after)
