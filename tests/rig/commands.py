"""Systems Manager's Run Command, executing for real.

Owns the operations, their limits as AWS documents and its agent implements them, and what becomes of a
command: it is delivered, run in a process group of its own, its pipes are read to their end (a child that
keeps them open keeps the command open), it is killed at its time limit or when cancelled, and what it
printed goes to S3 unless it is nothing. Of the styles of `styles.py`:

- `step_layout`: outputs are in a folder that is called like a step of the document
- `agent_words`: what the agent adds to complaints, and to what is cut off, is there
- `no_code`: there is no exit code, and every script that ran has succeeded
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import json
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

INLINE_STDOUT, INLINE_STDERR, LISTED = 24_000, 8_000, 2_500
TERMINAL = ("Success", "Failed", "TimedOut", "Cancelled", "Undeliverable", "Terminated")


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Invocation:
    """A command on one instance."""

    def __init__(self, command: Command, instance: str) -> None:
        self.command = command
        self.instance = instance
        self.status = self.details = "Pending"
        self.code = -1
        self.stdout = b""
        self.stderr = b""
        self.began = ""
        self.inline = INLINE_STDOUT
        self.cancelled = threading.Event()
        self.shown: list[str] = []

    def end(self, status: str, details: str, code: int = -1) -> None:
        self.code = code
        self.details = details
        self.status = status


def layers(text: str) -> list[str]:
    """The text, and what is in its base64 parts, theirs included: as whoever reads the history would look."""
    found = [text]
    for part in re.findall(r"[A-Za-z0-9+/]{16,}={0,2}", text):
        with contextlib.suppress(binascii.Error):
            found += layers(base64.b64decode(part + "=" * (-len(part) % 4)).decode(errors="replace"))
    return found


class Command:
    """What was sent."""

    def __init__(self, request: dict) -> None:
        self.id = str(uuid.uuid4())
        self.comment = request.get("Comment", "")
        self.step = self.comment.split(" ")[-1]
        self.request = request
        self.invocations: dict[str, Invocation] = {}
        self.requested = time.time()

    def status(self) -> str:
        states = {invocation.status for invocation in self.invocations.values()}
        for state in ("InProgress", "Pending", "Delayed", "Cancelling", "TimedOut", "Failed", "Cancelled"):
            if state in states:
                return "InProgress" if state == "Delayed" else state
        return "Success"


def _check(request: dict) -> None:
    def refuse(condition: bool, message: str) -> None:
        if condition:
            raise Refused("ValidationException", message)

    refuse(request.get("DocumentName") != "AWS-RunShellScript", "only AWS-RunShellScript is here")
    instances = request.get("InstanceIds") or []
    refuse(not 1 <= len(instances) <= 50, "InstanceIds: 1 to 50")
    refuse(len(request.get("Comment", "")) > 100, "Comment: at most 100 characters")
    delivery = request.get("TimeoutSeconds", 3600)
    refuse(not 30 <= delivery <= 2_592_000, "TimeoutSeconds: 30 to 2592000")
    refuse(len(request.get("OutputS3KeyPrefix", "")) > 500, "OutputS3KeyPrefix: at most 500")
    parameters = request.get("Parameters") or {}
    if set(parameters) - {"commands", "executionTimeout", "workingDirectory"}:
        raise Refused("InvalidParameters", str(sorted(parameters)))
    for name, values in parameters.items():
        ok = isinstance(values, list) and all(isinstance(value, str) for value in values)
        if not ok:
            raise Refused("InvalidParameters", f"{name} has to be a list of strings")
    if not parameters.get("commands"):
        raise Refused("InvalidParameters", "commands")
    if any("{{" in line for line in parameters["commands"]):
        raise Refused("InvalidParameters", "parameter references are not resolved here")
    limit = parameters.get("executionTimeout", ["3600"])[0]
    if not (limit.isdigit() and 5 <= int(limit) <= 172_800):
        raise Refused("InvalidParameters", "executionTimeout: 5 to 172800")


class Commands:
    """All commands of the account."""

    def __init__(
        self, machine: Callable[[str], Any], put: Callable[[str, str, bytes], None], faults: Any
    ) -> None:
        self._machine = machine
        self._put = put
        self._faults = faults
        self._commands: dict[str, Command] = {}
        self._uploads: set[Invocation] = set()
        self.sent: list[str] = []

    def call(self, operation: str, request: dict) -> dict:
        return getattr(self, "_" + operation)(request)

    OPERATIONS = (
        "SendCommand",
        "GetCommandInvocation",
        "ListCommands",
        "ListCommandInvocations",
        "CancelCommand",
        "DescribeInstanceInformation",
    )

    def running(self) -> int:
        """Commands that have not ended."""
        invocations = [one for command in self._commands.values() for one in command.invocations.values()]
        return sum(invocation.status not in TERMINAL for invocation in invocations)

    @property
    def uploading(self) -> int:
        """Outputs on their way to the bucket."""
        return len(self._uploads)

    def shows(self, secret: str) -> list[str]:
        """The steps in whose command or output the secret stands, whatever it is wrapped in."""
        found = []
        for command in self._commands.values():
            outputs = [one.stdout + one.stderr for one in command.invocations.values()]
            texts = [json.dumps(command.request), *(output.decode(errors="replace") for output in outputs)]
            if any(secret in layer for text in texts for layer in layers(text)):
                found.append(command.step)
        return found

    def _registered(self, instance: str) -> Any | None:
        machine = self._machine(instance)
        if machine is None or not machine.is_on or not machine.registered_at or machine.is_lost:
            return None
        return machine if machine.registered_at <= time.time() else None

    def _ping(self, instance: str) -> str | None:
        """What is told of an agent; nothing of one that has never registered."""
        if self._registered(instance):
            return "Online"
        machine = self._machine(instance)
        return "ConnectionLost" if machine and machine.is_on and machine.is_lost else None

    def _DescribeInstanceInformation(self, request: dict) -> dict:
        wanted = [value for one in request.get("Filters", []) for value in one["Values"]]
        listed = [
            {
                "InstanceId": instance,
                "PingStatus": ping,
                "PlatformType": "Linux",
                "AgentVersion": "3.3.0.0",
            }
            for instance in wanted
            if (ping := self._ping(instance))
        ]
        return {"InstanceInformationList": listed}

    def _SendCommand(self, request: dict) -> dict:
        _check(request)
        for instance in request["InstanceIds"]:
            if not self._registered(instance):
                raise Refused("InvalidInstanceId", "Instances not in a valid state for account")
        command = Command(request)
        self._commands[command.id] = command
        self.sent.append(command.step)
        for instance in request["InstanceIds"]:
            invocation = Invocation(command, instance)
            command.invocations[instance] = invocation
            fault = self._faults.take("command", command.step)
            threading.Thread(target=self._run, args=(invocation, fault), daemon=True).start()
        return {"Command": self._described(command)}

    def _described(self, command: Command) -> dict:
        return {
            "CommandId": command.id,
            "Comment": command.comment,
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": list(command.invocations),
            "Status": command.status(),
            "StatusDetails": command.status(),
            "RequestedDateTime": command.requested,
            "TargetCount": len(command.invocations),
        }

    def _found(self, request: dict) -> Invocation:
        command = self._commands.get(request["CommandId"])
        if command is None:
            raise Refused("InvalidCommandId")
        invocation = command.invocations.get(request["InstanceId"])
        if invocation is None:
            raise Refused("InvocationDoesNotExist")
        return invocation

    def _GetCommandInvocation(self, request: dict) -> dict:
        invocation = self._found(request)
        status, details = invocation.status, invocation.details
        if invocation.shown:
            status = details = invocation.shown.pop(0)
            if status == "unknown":
                raise Refused("InvocationDoesNotExist")
        ended = status in ("Success", "Failed")
        words = self._faults.has("agent_words")
        stderr = invocation.stderr
        if words and invocation.code > 0:
            stderr += f"\nfailed to run commands: exit status {invocation.code}".encode()
        stdout = _cut(invocation.stdout, invocation.inline)
        if words and len(invocation.stdout) > invocation.inline:
            stdout += "\n---Output truncated---"
        answer = {
            "CommandId": invocation.command.id,
            "InstanceId": invocation.instance,
            "Comment": invocation.command.comment,
            "DocumentName": "AWS-RunShellScript",
            "Status": status,
            "StatusDetails": details,
            "ResponseCode": invocation.code if status in TERMINAL else -1,
            "ExecutionStartDateTime": invocation.began,
            "StandardOutputContent": stdout if ended else "",
            "StandardErrorContent": _cut(stderr, INLINE_STDERR) if ended else "",
        }
        if self._faults.has("no_code"):
            del answer["ResponseCode"]
            if answer["StatusDetails"] == "Failed":
                answer["Status"] = answer["StatusDetails"] = "Success"
        return answer

    def _ListCommands(self, request: dict) -> dict:
        commands = [
            self._described(command)
            for command in self._commands.values()
            if request.get("InstanceId") in (None, *command.invocations)
            and request.get("CommandId") in (None, command.id)
        ]
        return {"Commands": commands}

    def _ListCommandInvocations(self, request: dict) -> dict:
        listed = []
        for command in self._commands.values():
            for invocation in command.invocations.values():
                is_asked = request.get("InstanceId") in (None, invocation.instance)
                if is_asked and request.get("CommandId") in (None, command.id):
                    output = _cut(invocation.stdout, LISTED)
                    if invocation.stderr:
                        output += "\n----------ERROR-------\n" + _cut(invocation.stderr, LISTED)
                    plugin = {"Name": "aws:runShellScript", "Status": invocation.status, "Output": output}
                    plugin["ResponseCode"] = invocation.code if invocation.status in TERMINAL else -1
                    listed.append(
                        {
                            "CommandId": command.id,
                            "InstanceId": invocation.instance,
                            "Comment": command.comment,
                            "Status": invocation.status,
                            "StatusDetails": invocation.details,
                            "CommandPlugins": [plugin] if request.get("Details") else [],
                        }
                    )
        return {"CommandInvocations": listed}

    def _CancelCommand(self, request: dict) -> dict:
        command = self._commands.get(request["CommandId"])
        if command is None:
            raise Refused("InvalidCommandId")
        for invocation in command.invocations.values():
            if invocation.status not in TERMINAL:
                invocation.status = invocation.details = "Cancelling"
            invocation.cancelled.set()
        return {}

    def _run(self, invocation: Invocation, fault: dict | None) -> None:
        """A command's way from being accepted to its end."""
        command = invocation.command
        what = fault["do"] if fault else ""
        delivery = command.request.get("TimeoutSeconds", 3600)
        if what in ("delayed", "unknown_status", "unknown_invocation"):
            state = {"delayed": "Delayed", "unknown_status": "Pondering", "unknown_invocation": "unknown"}[
                what
            ]
            invocation.shown = [state] * fault["polls"]
        elif what in ("refused", "inline"):
            invocation.inline = fault.get("inline", INLINE_STDOUT)
        elif what == "shown":
            return invocation.end(fault["status"], "")
        elif what == "delivery_timed_out":
            return invocation.end("TimedOut", "DeliveryTimedOut")
        elif what == "undeliverable":
            return invocation.end("Failed", "Undeliverable")
        elif what == "cancelled":
            return invocation.end("Cancelled", "Cancelled")
        machine = self._registered(invocation.instance)
        if machine is None:
            invocation.cancelled.wait(delivery)
            return invocation.end("TimedOut", "DeliveryTimedOut")
        if invocation.cancelled.is_set():
            return invocation.end("Cancelled", "Cancelled")
        invocation.status = invocation.details = "InProgress"
        invocation.began = datetime.datetime.now(datetime.timezone.utc).isoformat()
        parameters = command.request["Parameters"]
        limit = float(parameters.get("executionTimeout", ["3600"])[0])
        if what == "timed_out":
            limit = fault.get("seconds", 0.3)
        if what == "full":
            machine.fill()
        if what == "agent_lost":
            machine.lose(fault.get("seconds"))
        ended, killed = self._execute(invocation, machine, "\n".join(parameters["commands"]), limit, what)
        if not machine.is_on:
            # Nobody reports the end of a machine: Systems Manager finds out when the command's time is over.
            invocation.status = invocation.details = "InProgress"
            invocation.cancelled.wait(limit)
            return invocation.end("TimedOut", "ExecutionTimedOut", -1)
        deadline = time.monotonic() + limit
        while machine.is_lost and machine.is_on:
            # What came of it is told when the agent is back, if ever.
            if invocation.cancelled.wait(0.05) or time.monotonic() > deadline:
                return invocation.end("TimedOut", "ExecutionTimedOut", -1)
        self._upload(invocation, fault if what in ("refused", "late") else None)
        if killed:
            return invocation.end(killed[0], killed[1], 137)
        if ended == 0:
            return invocation.end("Success", "Success", 0)
        # A script that a signal ended has no exit code.
        return invocation.end("Failed", "Failed", -1 if ended < 0 else ended)

    def _execute(
        self, invocation: Invocation, machine: Any, script: str, limit: float, what: str
    ) -> tuple[int, tuple[str, str] | None]:
        process = machine.shell(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        result: list[bytes] = []
        reader = threading.Thread(target=lambda: result.extend(process.communicate()), daemon=True)
        reader.start()
        killed = None
        deadline = time.monotonic() + limit
        if what == "vanish":
            machine.vanish()
        while reader.is_alive():
            reader.join(0.02)
            if killed or not machine.is_on:
                continue
            if invocation.cancelled.is_set():
                killed = ("Cancelled", "Cancelled")
                machine.kill(process.pid)
            elif time.monotonic() > deadline:
                killed = ("TimedOut", "ExecutionTimedOut")
                machine.kill(process.pid)
        machine.forget(process.pid)
        invocation.stdout, invocation.stderr = result or [b"", b""]
        return process.returncode, killed

    def _upload(self, invocation: Invocation, fault: dict | None) -> None:
        request = invocation.command.request
        bucket = request.get("OutputS3BucketName")
        if not bucket or (fault and fault["do"] == "refused"):
            return
        prefix = request.get("OutputS3KeyPrefix", "")
        step = "runShellScript" if self._faults.has("step_layout") else "0.awsrunShellScript"
        folder = f"{invocation.command.id}/{invocation.instance}/awsrunShellScript/{step}"
        folder = f"{prefix.strip('/')}/{folder}" if prefix else folder

        def upload(pause: float) -> None:
            time.sleep(pause)
            machine = self._machine(invocation.instance)
            # It is the machine that uploads, unless it has handed it over to somebody.
            if not pause or fault.get("anyway") or (machine and machine.is_on):
                store()
            self._uploads.discard(invocation)

        def store() -> None:
            for name, content in (("stdout", invocation.stdout), ("stderr", invocation.stderr)):
                if content:
                    # The agent logs a refusal; the command's end does not depend on it.
                    with contextlib.suppress(Exception):
                        self._put(bucket, f"{folder}/{name}", content)

        self._uploads.add(invocation)
        if fault:
            threading.Thread(target=upload, args=(fault["seconds"],), daemon=True).start()
        else:
            upload(0)


def _cut(content: bytes, limit: int) -> str:
    return content.decode(errors="replace")[:limit]
