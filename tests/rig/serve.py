"""Starts the rig and says on its first line where it answers; ends with its standard input.

    python serve.py --machines folder|podman --folder DIRECTORY

The directory's `images.json` names the images that instances can pull (see `docker_shim.py`).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import boto3
import signature
from account import Account
from botocore.config import Config
from commands import Commands
from front import Front
from machines import FolderMachine, PodmanMachine
from moto.server import ThreadedMotoServer

REGION = "eu-west-1"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        # A client that is stopped leaves in the middle of an answer.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--machines", choices=["folder", "podman"], default="folder")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    os.environ.update(AWS_ACCESS_KEY_ID=signature.ACCESS_KEY, AWS_SECRET_ACCESS_KEY=signature.SECRET_KEY)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    clients = {
        service: boto3.client(
            service,
            region_name=REGION,
            endpoint_url=f"http://{host}:{port}",
            config=Config(s3={"addressing_style": "path"}),
        )
        for service in ("ec2", "s3", "iam")
    }
    location = {"LocationConstraint": REGION}
    clients["s3"].create_bucket(Bucket="evidence", CreateBucketConfiguration=location)
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    clients["iam"].create_role(RoleName="sizer", AssumeRolePolicyDocument=trust)
    clients["iam"].create_instance_profile(InstanceProfileName="sizer")
    clients["iam"].add_role_to_instance_profile(InstanceProfileName="sizer", RoleName="sizer")

    machine = {"folder": FolderMachine, "podman": PodmanMachine}[options.machines]
    account = Account(machine, options.folder.resolve(), clients)
    commands = Commands(
        account.machine,
        lambda bucket, key, body: clients["s3"].put_object(Bucket=bucket, Key=key, Body=body),
        account.faults,
    )
    account.commands = commands
    Front.account, Front.commands, Front.moto = account, commands, (host, port)
    server = Server(("127.0.0.1", 0), Front)
    account.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(
        json.dumps(
            {
                "endpoint": account.endpoint,
                "region": REGION,
                "access_key": signature.ACCESS_KEY,
                "secret_key": signature.SECRET_KEY,
                "bucket": "evidence",
                "profile": "sizer",
            }
        ),
        flush=True,
    )
    sys.stdin.read()
    for one in account.machines.values():
        one.end()


main()
