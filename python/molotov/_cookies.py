"""The native cookie jar as aiohttp's AbstractCookieJar, and the cookies a session starts with.

The native jar stays the one place where cookies are kept, so that the fast path, the Python path
and the script all see the same ones.
"""

from __future__ import annotations

from typing import Any

__all__ = ["insert_shared", "view"]

_made: list[type] = []


def insert_shared(native: Any, cookies: Any) -> bool:
    """Put cookies that belong to every host into the native jar; False (and none put) if some don't."""
    from http.cookies import Morsel, SimpleCookie

    items = cookies.items() if hasattr(cookies, "items") else cookies
    ready = []
    for name, value in items:
        if isinstance(value, Morsel):
            if any(value[attribute] for attribute in value):
                return False
            ready.append((name, value.coded_value))
        else:
            jar = SimpleCookie()
            jar[name] = value
            ready.append((name, jar[name].coded_value))
    for name, coded in ready:
        native.insert(name, coded)
    return True


def view(native: Any, loop: Any) -> Any:
    """Give the native jar aiohttp's jar interface; imports aiohttp."""
    if not _made:
        _made.append(_view_class())
    return _made[0](native, loop)


def _view_class() -> type:
    from collections.abc import Iterator, Mapping
    from http.cookies import Morsel, SimpleCookie

    from aiohttp.abc import AbstractCookieJar
    from yarl import URL

    nowhere = URL()

    def morsel(name: str, coded: str, attributes: dict[str, Any] | None = None) -> Morsel[str]:
        made: Morsel[str] = Morsel()
        value = SimpleCookie().value_decode(coded)[0]
        # set() refuses names that servers do send; __setstate__ takes them as they are.
        made.__setstate__(  # type: ignore[attr-defined]
            {"key": name, "value": value, "coded_value": coded}
        )
        for key, attribute in (attributes or {}).items():
            if attribute not in (None, "", False):
                made[key] = attribute
        return made

    class NativeCookieJar(AbstractCookieJar):
        """The session's own cookies."""

        def __init__(self, native: Any, loop: Any) -> None:
            self._loop = loop
            self._native = native

        unsafe = property(lambda self: False)
        quote_cookie = property(lambda self: True)
        treat_as_secure_origin = property(lambda self: frozenset())
        host_only_cookies = property(lambda self: frozenset())

        @property
        def cookies(self) -> Any:
            """All cookies by (domain, path)."""
            found: dict[tuple[str, str], SimpleCookie] = {}
            for cookie in self:
                key = (cookie["domain"], cookie["path"])
                dict.__setitem__(found.setdefault(key, SimpleCookie()), cookie.key, cookie)
            return found

        _cookies = cookies

        def __iter__(self) -> Iterator[Morsel[str]]:
            for name, coded, attributes in self._native.entries():
                yield morsel(name, coded, attributes)

        def __len__(self) -> int:
            return len(self._native.entries())

        def clear(self, predicate: Any = None) -> None:
            """Forget the cookies the predicate approves; all without one."""
            if predicate is None:
                self._native.clear()
                return
            kept = [cookie for cookie in self if not predicate(cookie)]
            self._native.clear()
            for cookie in kept:
                self._keep(cookie, cookie["domain"], "/")

        def clear_domain(self, domain: str) -> None:
            """Forget the cookies of a domain and its subdomains."""
            self.clear(lambda cookie: cookie["domain"] == domain or cookie["domain"].endswith("." + domain))

        def update_cookies(self, cookies: Any, response_url: URL = nowhere) -> None:
            """Take cookies: a mapping, pairs or a SimpleCookie, as if `response_url` had set them."""
            items = cookies.items() if isinstance(cookies, Mapping) else cookies
            for name, value in items:
                if not isinstance(value, Morsel):
                    holder = SimpleCookie()
                    holder[name] = value
                    value = holder[name]
                self._keep(value, response_url.raw_host or "", response_url.path or "/")

        def update_cookies_from_headers(self, headers: Any, response_url: URL) -> None:
            """Take Set-Cookie headers."""
            for header in headers:
                self._native.update(response_url.raw_host or "", response_url.path, header)

        def _keep(self, cookie: Morsel[str], host: str, path: str) -> None:
            domain = host or cookie["domain"].lstrip(".")
            if domain or any(cookie.values()):
                # Without a host, only what is for every path is ever sent: aiohttp keeps the rest to itself.
                self._native.update(domain, path, cookie.OutputString())
            else:
                self._native.insert(cookie.key, cookie.coded_value)

        def filter_cookies(self, request_url: URL = nowhere) -> Any:
            """Give the cookies a request to this URL carries."""
            url = URL(request_url)
            found = SimpleCookie()
            header = self._native.header_for(url.raw_host or "", url.path, url.scheme in ("https", "wss"))
            for pair in (header or "").split("; "):
                name, sign, coded = pair.partition("=")
                if sign:
                    dict.__setitem__(found, name, morsel(name, coded))
            return found

    return NativeCookieJar
