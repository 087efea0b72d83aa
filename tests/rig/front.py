"""The rig's HTTP side: checks signatures, does what faults say, answers itself or asks moto.

Owns which service answers what: Run Command, prices and quotas are the rig's own; EC2, S3, IAM, STS and
Parameter Store are moto's, with what moto lacks added on the way (an instance starts a machine, its
addresses are this machine's, a client token is idempotent). `/rig/...` is for the tests: faults, state, the
power button.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from xml.sax.saxutils import escape

import prices
import signature
import styles
from account import Account
from commands import Commands, Refused

# Where moto keeps accounts apart; ours is the only one.
ADDRESS = "127.0.0.1"


def _query_error(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    text = (
        f"<Response><Errors><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        "</Errors><RequestID>rig</RequestID></Response>"
    )
    return status, {"Content-Type": "text/xml"}, text.encode()


def _error(service: str, status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    if service == "s3":
        text = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        return status, {"Content-Type": "application/xml"}, text.encode()
    if service in ("ec2", "iam", "sts"):
        return _query_error(status, code, message)
    body = json.dumps({"__type": code, "message": message}).encode()
    return status, {"Content-Type": "application/x-amz-json-1.1"}, body


class Front(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    # Answers are written in two pieces: without this the second waits for the first one's receipt.
    disable_nagle_algorithm = True
    account: Account
    commands: Commands
    moto: tuple[str, int]

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self._handle()

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _handle(self) -> None:
        body = self._body()
        if self.path.startswith("/rig/"):
            return self._control(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        wrong = signature.problem(self.command, self.path, headers, body)
        service = "s3"
        if "authorization" in headers:
            _, _, service = signature.scope_of(headers["authorization"])
        if wrong:
            return self._send(
                *_error(service, 403, wrong, "The request signature does not match " + repr(headers))
            )
        operation = self._operation(service, headers, body)
        self.account.calls.append(operation)
        fault = self.account.faults.take(operation, do=("error", "lost", "cut", "slow"))
        if fault and fault["do"] == "error":
            status, message = fault.get("status", 400), fault.get("message", "as asked")
            status, answered, content = _error(service, status, fault["code"], message)
            return self._send(status, answered | fault.get("headers", {}), content)
        answer = self._answer(service, operation, headers, body)
        if fault and fault["do"] == "slow":
            time.sleep(fault["seconds"])
        elif fault and fault["do"] == "cut":
            answer = (answer[0], answer[1], answer[2][: len(answer[2]) // 2])
        elif fault:
            self.close_connection = True
            return None
        return self._send(*answer)

    def _operation(self, service: str, headers: dict[str, str], body: bytes) -> str:
        if "x-amz-target" in headers:
            return headers["x-amz-target"].rsplit(".", 1)[-1]
        if service == "s3":
            key = urlsplit(self.path).path.strip("/").partition("/")[2]
            names = {"GET": "GetObject" if key else "ListObjects", "HEAD": "HeadBucket"}
            return names.get(
                self.command, {"PUT": "PutObject", "DELETE": "DeleteObject"}.get(self.command, "S3")
            )
        return dict(parse_qsl(body.decode())).get("Action", "")

    def _answer(self, service: str, operation: str, headers: dict[str, str], body: bytes) -> tuple:
        if service == "ssm" and operation in Commands.OPERATIONS:
            try:
                faults, request = self.account.faults, json.loads(body)
                answer = styles.listed(faults, operation, request) or self.commands.call(operation, request)
                text = json.dumps(styles.dressed(faults, answer)).encode()
                return 200, {"Content-Type": "application/x-amz-json-1.1"}, text
            except Refused as refused:
                return _error(service, 400, refused.code, refused.message)
        if service in ("pricing", "servicequotas"):
            try:
                answer = self._listed(service, headers, json.loads(body))
            except prices.Refused as refused:
                return _error(service, 400, "InvalidParameterException", str(refused))
            return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()
        if service == "ec2":
            heard = styles.heard(self.account.faults, operation, body)
            if heard is None:
                return 200, {"Content-Type": "text/xml"}, styles.empty_page(operation)
            status, answered, content = self._ec2(operation, headers, heard)
            return status, answered, styles.told(self.account.faults, content)
        if operation == "ListObjects":
            path = styles.listing(self.account.faults, self.path)
            if path is None:
                return 200, {"Content-Type": "application/xml"}, styles.EMPTY_LISTING
            self.path = path
        return self._ask_moto(headers, body)

    def _listed(self, service: str, headers: dict[str, str], request: dict) -> dict:
        if service == "servicequotas":
            return self.account.quota(request)
        _, region, _ = signature.scope_of(headers["authorization"])
        return prices.get_products(request, region)

    def _ec2(self, operation: str, headers: dict[str, str], body: bytes) -> tuple:
        form = dict(parse_qsl(body.decode()))
        if operation == "RunInstances" and form.get("DryRun") != "true":
            token = form.get("ClientToken", "")
            with self.account.launching:
                if token in self.account.launched and not self.account.faults.has("no_token"):
                    return self.account.launched[token]
                answer = self._ask_moto(headers, body)
                if answer[0] == 200:
                    instance = re.search(rb"<instanceId>(i-\w+)<", answer[2])[1].decode()
                    self.account.start(instance, form.get("UserData", ""))
                    self.account.launched[token] = answer
                return answer
        if operation == "DeleteSecurityGroup" and self.account.is_used(form["GroupId"]):
            return _query_error(400, "DependencyViolation", "resource has a dependent object")
        answer = self._ask_moto(headers, body)
        if operation == "TerminateInstances" and answer[0] == 200:
            for name, instance in form.items():
                if name.startswith("InstanceId."):
                    self.account.end(instance)
        if operation in ("DescribeInstances", "RunInstances"):
            for tag in (b"ipAddress", b"privateIpAddress"):
                answer = (
                    answer[0],
                    answer[1],
                    re.sub(b"<" + tag + b">[^<]*<", b"<" + tag + b">" + ADDRESS.encode() + b"<", answer[2]),
                )
        return answer

    def _ask_moto(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        passed = {
            name: value
            for name, value in headers.items()
            if name not in ("transfer-encoding", "content-length", "connection", "expect")
        }
        connection = http.client.HTTPConnection(*self.moto, timeout=60)
        try:
            connection.request(self.command, self.path, body, passed)
            answer = connection.getresponse()
            content = answer.read()
            kept = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server")
            }
            return answer.status, kept, content
        finally:
            connection.close()

    def _control(self, body: bytes) -> None:
        url = urlsplit(self.path)
        if url.path == "/rig/faults":
            self.account.faults.add(json.loads(body))
            answer: Any = {}
        elif url.path == "/rig/reset":
            self.account.reset()
            answer = {}
        elif url.path == "/rig/power-off":
            self.account.power_off(parse_qs(url.query)["instance"][0])
            answer = {}
        elif url.path == "/rig/disown":
            self.account.disown(parse_qs(url.query)["instance"][0])
            answer = {}
        elif url.path == "/rig/bystander":
            answer = self.account.bystander()
        elif url.path == "/rig/shows":
            answer = self.account.commands.shows(json.loads(body)["text"])
        elif url.path == "/rig/stop-start":
            self.account.machines[parse_qs(url.query)["instance"][0]].stop_and_start()
            answer = {}
        elif url.path == "/rig/address":
            return self._send(200, {"Content-Type": "text/plain"}, ADDRESS.encode() + b"\n")
        else:
            answer = self.account.state()
        return self._send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def wait_for(condition: Any, seconds: float = 10.0) -> bool:
    """Whether the condition held in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True
