"""Certificates made for one test run, by the openssl command. Not a test itself."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_AUTHORITY = """
[ca]
default_ca = test
[test]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = anything
unique_subject = no
[anything]
commonName = optional
"""


class Certificates:
    """A throw-away authority with certificates for localhost, and what else a test has it issue.

    CPython 3.13 is strict by default, and this authority does not say what its key is for: the contexts
    made here are as lenient as before.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._openssl(
            *("req", "-x509", *_KEY, "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"),
            *("-subj", "/CN=test authority"),
        )
        (directory / "ca.cnf").write_text(_AUTHORITY)
        (directory / "index.txt").touch()
        self.issue("server", "DNS:localhost,IP:127.0.0.1")

    def issue(
        self,
        name: str,
        alternative: str | None,
        *,
        subject: str = "localhost",
        start: int = 0,
        end: int = 0,
        authority: str = "ca",
    ) -> None:
        """Write `name`.pem and `name`.key; `start` and `end` are years, 0 for now and for soon.

        `authority` signs it, though it may be none.
        """
        self._openssl(
            "req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}"
        )
        extensions = "basicConstraints=CA:FALSE\n"
        if alternative is not None:
            extensions += f"subjectAltName={alternative}\n"
        (self.directory / f"{name}.ext").write_text(extensions)
        period = []
        if start:
            period += ["-startdate", f"{start}0101000000Z"]
        period += ["-enddate", f"{end}0101000000Z"] if end else ["-days", "2"]
        self._openssl(
            *("ca", "-batch", "-config", "ca.cnf", "-notext"),
            *("-cert", f"{authority}.pem", "-keyfile", f"{authority}.key"),
            *("-extfile", f"{name}.ext", "-in", f"{name}.csr", "-out", f"{name}.pem", *period),
        )

    def sign_itself(self, name: str, alternative: str) -> None:
        """Write `name`.pem and `name`.key, a server's certificate that no authority vouches for."""
        self._openssl(
            *("req", "-x509", *_KEY, "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
            *("-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", f"subjectAltName={alternative}"),
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def server(self, name: str = "server") -> ssl.SSLContext:
        """A server's context with one of the certificates."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def fingerprint(self, name: str = "server") -> bytes:
        pem = (self.directory / f"{name}.pem").read_text()
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts this authority."""
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
