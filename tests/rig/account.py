"""The rig's one account: what moto holds and what runs because of it.

Owns the machines behind moto's instances, what is left at the end, and the answer about quotas, which moto
does not have.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from faults import Faults
from machines import Machine

GONE = ("shutting-down", "terminated")


class Account:
    """Everything of the account."""

    def __init__(self, machine: type[Machine], folder: Path, clients: dict[str, Any]) -> None:
        self.faults = Faults()
        self.calls: list[str] = []
        self.launching = threading.Lock()
        self.launched: dict[str, tuple] = {}
        self.machines: dict[str, Machine] = {}
        self.endpoint = ""
        self.commands: Any = None
        self._machine = machine
        self._folder = folder
        self._clients = clients

    def machine(self, instance: str) -> Machine | None:
        return self.machines.get(instance)

    def start(self, instance: str, user_data: str) -> None:
        machine = self._machine(instance, self._folder, self.endpoint, self._folder / "images.json")
        machine.vanish = lambda: self.power_off(instance)
        self.machines[instance] = machine
        threading.Thread(target=self._boot, args=(machine, user_data), daemon=True).start()

    def _boot(self, machine: Machine, user_data: str) -> None:
        boot = self.faults.take("boot")
        if boot and boot["do"] == "vanish":
            return self.power_off(machine.instance)
        machine.boot(user_data)
        register = self.faults.take("register")
        if register and register["do"] == "never":
            return None
        machine.registered_at = time.time() + (register["seconds"] if register else 0.0)
        return None

    def end(self, instance: str) -> None:
        if machine := self.machines.get(instance):
            machine.end()

    def power_off(self, instance: str) -> None:
        """The machine is off; EC2 terminates it, as its shutdown behaviour says."""
        self._clients["ec2"].terminate_instances(InstanceIds=[instance])
        self.end(instance)

    def disown(self, instance: str) -> None:
        """The instance is somebody else's: it carries no tag of ours."""
        found = self._instances([{"Name": "instance-id", "Values": [instance]}])[0]
        self._clients["ec2"].delete_tags(Resources=[instance], Tags=found["Tags"])

    def bystander(self) -> str:
        """Launches an instance that has nothing to do with anybody; its id."""
        images = self._clients["ec2"].describe_images(Owners=["amazon"])["Images"]
        answer = self._clients["ec2"].run_instances(ImageId=images[0]["ImageId"], MinCount=1, MaxCount=1)
        return answer["Instances"][0]["InstanceId"]

    def reset(self) -> None:
        """Forgets faults and what was counted; what there is stays."""
        self.faults.clear()
        self.calls.clear()
        self.commands.sent.clear()

    def is_used(self, group: str) -> bool:
        filters = [{"Name": "instance.group-id", "Values": [group]}]
        return bool([one for one in self._instances(filters) if one["State"]["Name"] not in GONE])

    def _instances(self, filters: list[dict] | None = None) -> list[dict]:
        answer = self._clients["ec2"].describe_instances(Filters=filters or [])
        return [one for reservation in answer["Reservations"] for one in reservation["Instances"]]

    def state(self) -> dict[str, Any]:
        """What is there: for the tests to count."""
        s3, ec2 = self._clients["s3"], self._clients["ec2"]
        objects = [
            f"{bucket['Name']}/{item['Key']}"
            for bucket in s3.list_buckets()["Buckets"]
            for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])
        ]
        groups = ec2.describe_security_groups()["SecurityGroups"]
        return {
            "instances": [one["InstanceId"] for one in self._instances() if one["State"]["Name"] not in GONE],
            "launched": list(self.machines),
            "groups": [group["GroupId"] for group in groups if group["GroupName"] != "default"],
            "objects": objects,
            "processes": [left for machine in self.machines.values() for left in machine.left()],
            "files": [file for machine in self.machines.values() for file in machine.files()],
            "uploads_pending": self.commands.uploading,
            "commands_running": self.commands.running(),
            "commands_sent": self.commands.sent,
            "calls": self.calls,
            "faults_taken": len(self.faults.taken),
        }

    def quota(self, request: dict) -> dict:
        return {"Quota": {"QuotaCode": request["QuotaCode"], "Value": 32.0}}
