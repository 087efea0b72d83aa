"""How endpoints differ that are all right: what AWS leaves open, and what stand-ins for it do their own way.

Owns the changes to requests and answers, each in force while `Faults.has` says so:

- `paged`: the first page of every list is empty, and not the last
- `spaced`: EC2's texts have spaces and line ends around them
- `iso_times`: Systems Manager's times are texts, and there are empty members and some that nobody knows
- `private_only`: instances have no public address
- `untagged`: tags at creation are ignored
- `unfiltered`: filters are ignored: everybody's things are listed
- `no_token`: client tokens are ignored
- `step_layout`, `agent_words`, `no_code`: see `commands.py`
"""

from __future__ import annotations

import datetime
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from faults import Faults

NEXT = "rig-page-2"
LISTS = {
    "DescribeInstanceInformation": "InstanceInformationList",
    "ListCommands": "Commands",
    "ListCommandInvocations": "CommandInvocations",
}


def heard(faults: Faults, operation: str, body: bytes) -> bytes | None:
    """What EC2 hears of a request; None when the answer is an empty page."""
    form = dict(parse_qsl(body.decode()))
    ignored = []
    if operation in ("RunInstances", "CreateSecurityGroup") and faults.has("untagged"):
        ignored.append("TagSpecification.")
    if operation.startswith("Describe"):
        if faults.has("unfiltered"):
            ignored += ["Filter.", "MaxResults"]
        if faults.has("paged"):
            if form.get("NextToken") != NEXT:
                return None
            ignored += ["NextToken", "MaxResults"]
    kept = {name: value for name, value in form.items() if not name.startswith(tuple(ignored))}
    return urlencode(kept).encode() if kept != form else body


def empty_page(operation: str) -> bytes:
    """A page of EC2 with nothing on it but where to go on."""
    return f"<{operation}Response><nextToken>{NEXT}</nextToken></{operation}Response>".encode()


def told(faults: Faults, answer: bytes) -> bytes:
    """What EC2 answers."""
    if faults.has("private_only"):
        told_of = rb"<ipAddress>[^<]*</ipAddress>|<association>.*?</association>"
        answer = re.sub(told_of, b"", answer, flags=re.DOTALL)
    if not faults.has("spaced"):
        return answer
    return re.sub(rb">([^<>\s][^<>]*)<", rb">\n    \1\n  <", answer)


def listed(faults: Faults, operation: str, request: dict) -> dict | None:
    """The empty first page of Systems Manager; None when there is none."""
    if operation in LISTS and faults.has("paged") and request.get("NextToken") != NEXT:
        return {LISTS[operation]: [], "NextToken": NEXT}
    return None


def dressed(faults: Faults, answer: Any) -> Any:
    """What Systems Manager answers."""
    if not faults.has("iso_times"):
        return answer
    return _dressed(answer)


def _dressed(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_dressed(one) for one in answer]
    if not isinstance(answer, dict):
        return answer
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    changed = {
        name: now if name.endswith("DateTime") else str(value) if name == "ResponseCode" else _dressed(value)
        for name, value in answer.items()
    }
    return {**changed, "LastPingDateTime": now, "ExpiresAfter": now, "Priority": None, "Novelty": [{"x": 1}]}


def listing(faults: Faults, path: str) -> str | None:
    """What S3 hears of a listing; None when the answer is an empty page."""
    if not faults.has("paged"):
        return path
    url = urlsplit(path)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    if query.pop("continuation-token", None) != NEXT:
        return None
    return urlunsplit(url._replace(query=urlencode(query)))


EMPTY_LISTING = (
    "<ListBucketResult><IsTruncated>true</IsTruncated><KeyCount>0</KeyCount>"
    f"<NextContinuationToken>{NEXT}</NextContinuationToken></ListBucketResult>"
).encode()
