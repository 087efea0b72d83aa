"""Certificates made for one test run, by the openssl command. Not a test itself."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from typing import Any


class Certificates:
    """A throw-away authority with a certificate for localhost and one for a client."""

    def __init__(self, directory: Any) -> None:
        self.directory = directory
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        self._openssl(
            "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority"
        )
        self._openssl(
            "req", *key[:-2], "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"
        )
        (directory / "san").write_text(
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
        )
        self._openssl(
            *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", "san", "-out", "server.pem"),
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.path("server.pem"), self.path("server.key"))
        return context

    def fingerprint(self) -> bytes:
        pem = (self.directory / "server.pem").read_text()
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts this authority."""
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        # CPython 3.13 is strict by default; the authority of these tests has no extensions.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
