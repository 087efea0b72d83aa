"""Redirects: what follows which, and what the next hop keeps."""

from __future__ import annotations

import pytest
from differential import (
    BASIC,
    IGNORED_WARNINGS,
    Case,
    Made,
    Stage,
    c,
    check,
    form,
    generated,
    in_memory,
    stages,
    temporary,
)

pytestmark = IGNORED_WARNINGS
stage = stages()

CASES: dict[str, Case] = {
    # redirects
    **{
        f"redirect {s} {m}": c(m, f"/redirect/{s}", data=b"body" if m != "GET" else None)
        for s in (301, 302, 303, 307, 308)
        for m in ("GET", "POST", "PUT", "DELETE")
    },
    **{f"redirect {s} HEAD": c("HEAD", f"/redirect/{s}", allow_redirects=True) for s in (301, 303, 307)},
    "redirect json": c("POST", "/redirect/307", json={"a": 1}),
    "redirect form": c("POST", "/redirect/308", data={"a": "1"}),
    "redirect file": c("POST", "/redirect/307", data=Made(temporary)),
    "redirect generator": c("POST", "/redirect/307", data=Made(generated)),
    "redirect generator to get": c("POST", "/redirect/303", data=Made(generated)),
    "redirect multipart": c("POST", "/redirect/307", data=form(("f", in_memory, {"filename": "z"}))),
    "redirect own length": c("POST", "/redirect/303", data=b"abc", headers={"Content-Length": "3"}),
    "redirects off": c("GET", "/redirect/302", allow_redirects=False),
    "redirect without location": c("GET", "/bare-redirect"),
    "redirect loop": c("GET", "/loop"),
    "redirect limit": c("GET", "/chain/5", max_redirects=3),
    "redirect chain": c("GET", "/chain/5"),
    "redirect chain, named host": c("GET", lambda base: base.replace("127.0.0.1", "localhost") + "/chain/3"),
    "redirect with auth": c("GET", "/redirect/302", auth=BASIC),
    "redirect with header auth": c("GET", "/redirect/302", headers={"Authorization": "Bearer x"}),
    "redirect relative": c("GET", "/redirect/302?to=other"),
    "redirect parent": c("GET", "/redirect/302?to=../up"),
    "redirect query only": c("GET", "/redirect/302?to=%3Fx%3D1"),
    "redirect fragment": c("GET", "/redirect/302?to=/echo%23frag"),
    "redirect spaces": c("GET", "/redirect/302?to=/a%20b%3Fc%3Dd%20e"),
    "redirect quoted": c("GET", "/redirect/302?to=/a%2520b"),
    "redirect unicode": c("GET", "/redirect/302?to=/caf%C3%A9"),
    "redirect requote off": c(
        "GET", "/redirect/302?to=/a%2520b", session=lambda: {"requote_redirect_url": False}
    ),
    "redirect to ftp": c("GET", "/redirect/302?to=ftp://127.0.0.1/"),
    "redirect to nonsense": c("GET", "/redirect/302?to=http://:/"),
    "redirect to bad port": c("GET", "/redirect/302?to=http://127.0.0.1:x/"),
    "redirect without host": c("GET", "/redirect/302?to=http:///x"),
    "redirect params": c("GET", "/redirect/302?to=/echo", params={"a": "1"}),
    "redirect cookies": c("GET", "/redirect/302", cookies={"a": "1"}),
    "redirect then status": c("GET", "/redirect/302?to=/status/404", raise_for_status=True),
}

#: Cases that aiohttp itself serves, and the reason.
FALLS_BACK: dict[str, str] = {}
#: What of a result is left out because it differs on purpose.
ON_PURPOSE: dict[str, set[str]] = {
    # aiohttp puts such a response into its own history: a reference to itself.
    "redirect without location": {"history"},
    # aiohttp fills the history in after it has checked the status; ours tells the hops.
    "redirect then status": {"history"},
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_differs(name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients give the same results, send the same requests and keep the same cookies."""
    check(
        stage,
        CASES[name],
        monkeypatch,
        ignored=ON_PURPOSE.get(name, set()),
        falls_back=FALLS_BACK.get(name),
    )
