"""Turn aiohttp's `ssl=` values into the native TLS settings, and know which ones can't be turned.

An SSLContext does not tell whether a client certificate, protocols or a directory of CAs were
loaded into it. `watch()` notes those calls as they happen, so that such a context is served by
aiohttp itself instead of silently losing its certificate.
"""

from __future__ import annotations

import ssl as ssl_module
import weakref
from functools import wraps
from typing import Any

__all__ = ["Unreadable", "merge", "read", "watch"]

_UNREADABLE_CALLS = {
    "load_cert_chain": "a client certificate",
    "set_alpn_protocols": "ALPN protocols",
    "set_npn_protocols": "NPN protocols",
    "set_ciphers": "its own ciphers",
    "set_ecdh_curve": "its own curve",
    "load_dh_params": "its own DH parameters",
}
_noted: weakref.WeakKeyDictionary[ssl_module.SSLContext, str] = weakref.WeakKeyDictionary()
#: The objects that stand for one configuration keep one native counterpart: pools compare them.
_read_contexts: weakref.WeakKeyDictionary[ssl_module.SSLContext, Any] = weakref.WeakKeyDictionary()


class Unreadable(Exception):
    """The value is valid for aiohttp, but holds something only OpenSSL can use."""


def watch() -> None:
    """Note, on every SSLContext made from now on, the calls whose effect can't be read back."""
    if getattr(ssl_module.SSLContext, "_molotov_watched", False):
        return
    for name, what in _UNREADABLE_CALLS.items():
        original = getattr(ssl_module.SSLContext, name, None)
        if original is not None:
            setattr(ssl_module.SSLContext, name, _noting(original, what))
    locations = ssl_module.SSLContext.load_verify_locations

    @wraps(locations)
    def load_verify_locations(
        self: ssl_module.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None
    ) -> None:
        locations(self, cafile, capath, cadata)
        _read_contexts.pop(self, None)
        if capath is not None:
            _noted[self] = "a directory of certificates"

    ssl_module.SSLContext.load_verify_locations = load_verify_locations  # type: ignore[method-assign]
    ssl_module.SSLContext._molotov_watched = True  # type: ignore[attr-defined]


def _noting(original: Any, what: str) -> Any:
    @wraps(original)
    def noting(self: ssl_module.SSLContext, *arguments: Any, **named: Any) -> Any:
        done = original(self, *arguments, **named)
        _noted[self] = what
        return done

    return noting


def merge(ssl: Any, verify_ssl: Any = None, ssl_context: Any = None, fingerprint: Any = None) -> Any:
    """Fold aiohttp's three deprecated arguments into `ssl`; ValueError when they contradict each other."""
    if ssl is None:
        ssl = True
    replacement: Any = None
    given = 0
    if verify_ssl is not None and not verify_ssl:
        replacement, given = False, given + 1
    if ssl_context is not None:
        replacement, given = ssl_context, given + 1
    if fingerprint is not None:
        from aiohttp import Fingerprint

        replacement, given = Fingerprint(fingerprint), given + 1
    if given:
        if given > 1 or ssl is not True:
            raise ValueError("verify_ssl, ssl_context, fingerprint and ssl parameters are mutually exclusive")
        ssl = replacement
    if not isinstance(ssl, (bool, ssl_module.SSLContext)) and not _is_fingerprint(ssl):
        raise TypeError(f"ssl should be SSLContext, bool, Fingerprint or None, got {ssl!r} instead.")
    return ssl


def _is_fingerprint(value: Any) -> bool:
    return isinstance(getattr(value, "fingerprint", None), bytes) and hasattr(value, "check")


def read(ssl: Any, server_hostname: str | None = None) -> Any:
    """Give the native settings for `ssl`; None means the defaults. Raises Unreadable.

    True: the system's certificate authorities. False: no verification at all. Fingerprint: no
    verification besides the SHA-256 of the certificate (as aiohttp does).
    """
    from molotov import _core

    if isinstance(ssl, ssl_module.SSLContext):
        return _read_context(ssl, server_hostname)
    if ssl is True or ssl is None:
        return None if server_hostname is None else _core.SslConfig(server_hostname=server_hostname)
    if ssl is False:
        return _core.SslConfig(verify="none", check_hostname=False, server_hostname=server_hostname)
    return _core.SslConfig(
        verify="none",
        check_hostname=False,
        fingerprint=ssl.fingerprint,
        server_hostname=server_hostname,
    )


def _read_context(context: ssl_module.SSLContext, server_hostname: str | None) -> Any:
    from molotov import _core

    note = _noted.get(context)
    if note is None:
        note = _unusual(context)
    if note is not None:
        raise Unreadable(f"an SSLContext with {note}")
    state = (context.verify_mode, context.check_hostname, context.minimum_version, server_hostname)
    known = _read_contexts.get(context)
    if known is not None and known[0] == state:
        return known[1]
    certificates = context.get_ca_certs(binary_form=True)
    if context.verify_mode == ssl_module.CERT_NONE:
        config = _core.SslConfig(verify="none", check_hostname=False, server_hostname=server_hostname)
    else:
        pem = "".join(map(ssl_module.DER_cert_to_PEM_cert, certificates)).encode()
        config = _core.SslConfig(
            verify="ca" if pem else "system",
            ca_pem=pem or None,
            check_hostname=context.check_hostname,
            minimum_version=_version(context.minimum_version),
            server_hostname=server_hostname,
        )
    _read_contexts[context] = (state, config)
    return config


def _unusual(context: ssl_module.SSLContext) -> str | None:
    """Name what in a context the native TLS could not honour, or None."""
    versions = ssl_module.TLSVersion
    flags = context.verify_flags & ~(
        ssl_module.VERIFY_X509_TRUSTED_FIRST
        | getattr(ssl_module, "VERIFY_X509_PARTIAL_CHAIN", 0)
        | getattr(ssl_module, "VERIFY_X509_STRICT", 0)
    )
    if type(context) is not ssl_module.SSLContext:
        return f"class {type(context).__name__}"
    if getattr(context, "keylog_filename", None):
        return "a key log"
    if flags:
        return "verify flags"
    if context.sni_callback is not None:
        return "an SNI callback"
    if context.maximum_version not in (versions.MAXIMUM_SUPPORTED, versions.TLSv1_3):
        return "a highest TLS version"
    if context.minimum_version not in (versions.MINIMUM_SUPPORTED, versions.TLSv1_2, versions.TLSv1_3):
        return "TLS versions below 1.2"
    return None


def _version(minimum: ssl_module.TLSVersion) -> str | None:
    return "1.3" if minimum == ssl_module.TLSVersion.TLSv1_3 else None
