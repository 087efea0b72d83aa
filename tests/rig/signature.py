"""Checks Signature Version 4 of a request, as AWS does.

Owns nothing but the check; the front refuses what fails it. The algorithm is AWS's documented one.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qsl, quote, unquote

ACCESS_KEY = "AKIARIGRIGRIGRIGRIGR"
SECRET_KEY = "rig/secret/only/for/the/test/rig/0000000"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def scope_of(authorization: str) -> tuple[str, str, str]:
    """Date, region and service that a request is signed for."""
    credential = _fields(authorization)["Credential"]
    _, date, region, service, _ = credential.rsplit("/", 4)
    return date, region, service


def _fields(authorization: str) -> dict[str, str]:
    _, _, rest = authorization.partition(" ")
    return dict(part.strip().split("=", 1) for part in rest.split(","))


def problem(method: str, target: str, headers: dict[str, str], body: bytes) -> str | None:
    """Why the signature is wrong; None when it is right. Header names are lower case."""
    authorization = headers.get("authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        return "MissingAuthenticationToken"
    fields = _fields(authorization)
    if fields["Credential"].split("/")[0] != ACCESS_KEY:
        return "InvalidClientTokenId"
    date, region, service = scope_of(authorization)
    signed = fields["SignedHeaders"].split(";")
    if "host" not in signed or "x-amz-date" not in signed:
        return "SignatureDoesNotMatch"
    path, _, query = target.partition("?")
    if service != "s3":
        path = quote(path, safe="/-_.~")
    else:
        path = quote(unquote(path), safe="/-_.~")
    pairs = sorted(
        (quote(key, safe="-_.~"), quote(value, safe="-_.~"))
        for key, value in parse_qsl(query, keep_blank_values=True)
    )
    payload = headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
    is_hash = len(payload) == 64
    if is_hash and payload != hashlib.sha256(body).hexdigest():
        return "XAmzContentSHA256Mismatch"
    canonical = "\n".join(
        [
            method,
            path or "/",
            "&".join(f"{key}={value}" for key, value in pairs),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed),
            "",
            fields["SignedHeaders"],
            payload,
        ]
    )
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            headers["x-amz-date"],
            f"{date}/{region}/{service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = _hmac(("AWS4" + SECRET_KEY).encode(), date)
    for part in (region, service, "aws4_request"):
        key = _hmac(key, part)
    wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return None if hmac.compare_digest(wanted, fields["Signature"]) else "SignatureDoesNotMatch"
