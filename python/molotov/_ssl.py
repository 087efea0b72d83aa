"""Turn aiohttp's `ssl=` values into the native TLS settings, and know which ones can't be turned.

An SSLContext does not tell which client certificate, protocols, directory of CAs or default CAs were
loaded into it. `watch()` notes those calls as they happen, so that such a context means natively what
it means to OpenSSL, or is served by aiohttp itself.
"""

from __future__ import annotations

import os
import re
import ssl as ssl_module
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

__all__ = ["Unreadable", "merge", "read", "watch"]

#: Calls with an effect that only OpenSSL can have.
_UNREADABLE_CALLS = {
    "set_npn_protocols": "NPN protocols",
    "set_ciphers": "its own ciphers",
    "set_ecdh_curve": "its own curve",
    "load_dh_params": "its own DH parameters",
}
#: Names of certificates in a directory that OpenSSL looks into (c_rehash).
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")
_PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_PARTIAL_CHAIN = getattr(ssl_module, "VERIFY_X509_PARTIAL_CHAIN", 0)


@dataclass
class _Noted:
    """What was loaded into a context besides what it tells itself."""

    unreadable: str | None = None
    system: bool = False
    identity: tuple[bytes, bytes] | None = None
    protocols: list[bytes] | None = None
    directories: list[str] = field(default_factory=list)
    #: DER of the certificates that were loaded as trusted.
    loaded: list[bytes] = field(default_factory=list)


_notes: weakref.WeakKeyDictionary[ssl_module.SSLContext, _Noted] = weakref.WeakKeyDictionary()
#: The objects that stand for one configuration keep one native counterpart: pools compare them.
_read_contexts: weakref.WeakKeyDictionary[ssl_module.SSLContext, Any] = weakref.WeakKeyDictionary()


class Unreadable(Exception):
    """The value is valid for aiohttp, but holds something only OpenSSL can use."""


def watch() -> None:
    """Note, on every SSLContext made from now on, the calls whose effect can't be read back."""
    if getattr(ssl_module.SSLContext, "_molotov_watched", False):
        return
    for name, what in _UNREADABLE_CALLS.items():
        _follow(name, partial(_note_unreadable, what))
    _follow("load_cert_chain", _note_identity)
    _follow("set_alpn_protocols", _note_protocols)
    _follow("load_verify_locations", _note_locations)
    for name in ("load_default_certs", "set_default_verify_paths"):
        _follow(name, _note_system)
    _follow_creation()
    ssl_module.SSLContext._molotov_watched = True  # type: ignore[attr-defined]


def _follow(name: str, note: Callable[[_Noted, dict[str, Any]], None]) -> None:
    """Let `note` see the arguments of every call of a method that did not fail."""
    original = getattr(ssl_module.SSLContext, name, None)
    if original is None:
        return
    names = _ARGUMENTS.get(name, ())

    @wraps(original)
    def noting(self: ssl_module.SSLContext, *arguments: Any, **named: Any) -> Any:
        done = original(self, *arguments, **named)
        noted = _notes.setdefault(self, _Noted())
        note(noted, {**dict(zip(names, arguments, strict=False)), **named})
        _read_contexts.pop(self, None)
        return done

    setattr(ssl_module.SSLContext, name, noting)


def _follow_creation() -> None:
    """Note new contexts: one that nothing was loaded into trusts nobody."""
    original = ssl_module.SSLContext.__new__

    def new(cls: type[ssl_module.SSLContext], *arguments: Any, **named: Any) -> ssl_module.SSLContext:
        made: ssl_module.SSLContext = original(cls, *arguments, **named)
        _notes[made] = _Noted()
        return made

    ssl_module.SSLContext.__new__ = new  # type: ignore[method-assign,assignment]


_ARGUMENTS = {
    "load_cert_chain": ("certfile", "keyfile", "password"),
    "set_alpn_protocols": ("alpn_protocols",),
    "load_verify_locations": ("cafile", "capath", "cadata"),
}


def _note_unreadable(what: str, noted: _Noted, arguments: dict[str, Any]) -> None:
    noted.unreadable = what


def _note_system(noted: _Noted, arguments: dict[str, Any]) -> None:
    noted.system = True


def _note_identity(noted: _Noted, arguments: dict[str, Any]) -> None:
    certificates = _content(arguments["certfile"])
    keyfile = arguments.get("keyfile")
    key = certificates if keyfile is None else _content(keyfile)
    if noted.identity is not None or certificates is None or key is None or b"ENCRYPTED" in key:
        # Several certificates, of which OpenSSL chooses; a pipe that can be read once; a password.
        noted.unreadable = "a client certificate"
        return
    noted.identity = (certificates, key)


def _content(path: Any) -> bytes | None:
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _note_protocols(noted: _Noted, arguments: dict[str, Any]) -> None:
    noted.protocols = [bytes(name, "ascii") for name in arguments["alpn_protocols"]]


def _note_locations(noted: _Noted, arguments: dict[str, Any]) -> None:
    directory = arguments.get("capath")
    if directory is not None:
        noted.directories.append(os.fsdecode(directory))
    file, data = arguments.get("cafile"), arguments.get("cadata")
    if file is not None:
        noted.loaded += _certificates((_content(file) or b"").decode("ascii", "replace"))
    if isinstance(data, str):
        noted.loaded += _certificates(data)
    elif data is not None:
        noted.loaded += _elements(bytes(data))


def _certificates(pem: str) -> list[bytes]:
    """Give the DER of each certificate in a text."""
    return [ssl_module.PEM_cert_to_DER_cert(found) for found in _PEM.findall(pem)]


def _elements(der: bytes) -> list[bytes]:
    """Split certificates in DER that follow each other (X.690, 8.1.3: definite lengths)."""
    found = []
    while len(der) > 1:
        size = der[1]
        digits = size & 0x7F if size & 0x80 else 0
        end = 2 + digits + (int.from_bytes(der[2 : 2 + digits], "big") if digits else size)
        found.append(der[:end])
        der = der[end:]
    return found


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

    noted = _notes.get(context) or _Noted()
    unusual = noted.unreadable or _unusual(context, noted)
    if unusual is not None:
        raise Unreadable(f"an SSLContext with {unusual}")
    state = (
        context.verify_mode,
        context.check_hostname,
        context.minimum_version,
        context.maximum_version,
        context.verify_flags,
        server_hostname,
    )
    known = _read_contexts.get(context)
    if known is not None and known[0] == state:
        return known[1]
    settings: dict[str, Any] = {
        "minimum_version": _version(context.minimum_version),
        "maximum_version": _version(context.maximum_version),
        "protocols": noted.protocols,
        "identity": noted.identity,
        "server_hostname": server_hostname,
    }
    if context.verify_mode == ssl_module.CERT_NONE:
        settings.update(verify="none", check_hostname=False)
    else:
        settings.update(_authorities(context, noted), check_hostname=context.check_hostname)
    try:
        config = _core.SslConfig(**settings)
    except ValueError as error:
        # A key of a kind that OpenSSL knows and rustls does not.
        raise Unreadable(f"an SSLContext with a client certificate ({error})") from error
    _read_contexts[context] = (state, config)
    return config


def _authorities(context: ssl_module.SSLContext, noted: _Noted) -> dict[str, Any]:
    """Give whom a context trusts; a context made before watch() began counts as one with the defaults."""
    certificates = context.get_ca_certs(binary_form=True)
    found = _in_directories(noted.directories)
    authorities = _authorities_among(found)
    pem = "".join(map(ssl_module.DER_cert_to_PEM_cert, [*certificates, *authorities])).encode()
    # OpenSSL takes a server's own certificate too, of which the context does not tell; but it never takes one
    # for an authority that may sign others.
    loaded = [*noted.loaded, *found]
    leaves = [der for der in loaded if der not in certificates and der not in authorities]
    settings: dict[str, Any] = {
        "leaf_pem": "".join(map(ssl_module.DER_cert_to_PEM_cert, leaves)).encode(),
        "partial_chain": bool(context.verify_flags & _PARTIAL_CHAIN),
    }
    if noted.system or (not pem and not leaves and context not in _notes):
        return {**settings, "verify": "system", "ca_pem": pem or None}
    return {**settings, "verify": "ca", "ca_pem": pem}


def _in_directories(directories: list[str]) -> list[bytes]:
    """Give the DER of the certificates that OpenSSL would find in these directories."""
    found: list[bytes] = []
    for directory in directories:
        for name in sorted(os.listdir(directory)):
            if _HASHED.fullmatch(name):
                content = _content(os.path.join(directory, name)) or b""
                found += _certificates(content.decode("ascii", "replace"))
    return found


def _authorities_among(certificates: list[bytes]) -> list[bytes]:
    """Give those that OpenSSL takes for certificate authorities."""
    if not certificates:
        return []
    scratch = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_CLIENT)
    scratch.load_verify_locations(cadata=b"".join(certificates))
    return scratch.get_ca_certs(binary_form=True)


def _unusual(context: ssl_module.SSLContext, noted: _Noted) -> str | None:
    """Name what in a context the native TLS could not honour, or None."""
    from molotov._connector import http2

    versions = ssl_module.TLSVersion
    flags = context.verify_flags & ~(
        ssl_module.VERIFY_X509_TRUSTED_FIRST | _PARTIAL_CHAIN | getattr(ssl_module, "VERIFY_X509_STRICT", 0)
    )
    if type(context) is not ssl_module.SSLContext:
        return f"class {type(context).__name__}"
    if getattr(context, "keylog_filename", None):
        return "a key log"
    if flags:
        return "verify flags"
    if context.sni_callback is not None:
        return "an SNI callback"
    if context.maximum_version not in (versions.MAXIMUM_SUPPORTED, versions.TLSv1_2, versions.TLSv1_3):
        return "TLS versions below 1.2"
    if noted.protocols is not None and b"h2" in noted.protocols and http2() is None:
        return "the ALPN protocol h2"
    if context.minimum_version not in (versions.MINIMUM_SUPPORTED, versions.TLSv1_2, versions.TLSv1_3):
        return "TLS versions below 1.2"
    return None


_VERSIONS = {ssl_module.TLSVersion.TLSv1_2: "1.2", ssl_module.TLSVersion.TLSv1_3: "1.3"}


def _version(version: ssl_module.TLSVersion) -> str | None:
    return _VERSIONS.get(version)
