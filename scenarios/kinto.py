"""Size a Kinto server: records are written, read, listed and deleted in the default bucket.

    make demo                                             starts a Kinto, sizes it, stops it
    molotov -x --max-runs 1 scenarios/kinto.py            one run per worker, stops at the first failure
    molotov --sizing -w 100 --ramp-up 60 scenarios/kinto.py

SERVER_URL is the server's versioned root, http://127.0.0.1:8888/v1/ by default. Kinto needs
`kinto.plugins.default_bucket` and the `basicauth` policy; tools/kinto-memory.ini has both.
"""

import base64
import os
import uuid
from urllib.parse import urljoin

from molotov import scenario, setup

SERVER_URL = os.environ.get("SERVER_URL", "http://127.0.0.1:8888/v1/").rstrip("/") + "/"
RECORDS = "buckets/default/collections/todo/records"


@setup()
async def authenticate(worker_id, args):
    """Make every worker a user of its own: Kinto then gives it a default bucket of its own."""
    user = f"worker-{worker_id}-{uuid.uuid4().hex}:secret"
    return {"headers": {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}}


@scenario(weight=100)
async def life_of_a_record(session):
    """Look at the server, then create, read, list and delete a record."""
    async with session.get(SERVER_URL) as response:
        assert response.status == 200, response.status
        root = await response.json()
        assert root["project_name"] == "kinto", root
        assert "default_bucket" in root["capabilities"], root["capabilities"]

    # Without its version prefix the path is answered with a 307, which keeps the method, the body and,
    # within one origin, the authorization.
    title = uuid.uuid4().hex
    async with session.post(urljoin(SERVER_URL, "/" + RECORDS), json={"data": {"title": title}}) as response:
        assert response.status == 201, (response.status, await response.text())
        assert [hop.status for hop in response.history] == [307], response.history
        created = (await response.json())["data"]
        assert created["title"] == title, created

    record = f"{SERVER_URL}{RECORDS}/{created['id']}"
    async with session.get(record) as response:
        assert response.status == 200, response.status
        assert (await response.json())["data"] == created
        assert response.headers["ETag"] == f'"{created["last_modified"]}"', response.headers["ETag"]

    # The newest come first.
    async with session.get(SERVER_URL + RECORDS, params={"_limit": "5"}) as response:
        assert response.status == 200, response.status
        listed = (await response.json())["data"]
        assert listed and listed[0] == created, listed

    async with session.delete(record) as response:
        assert response.status == 200, response.status
        deleted = (await response.json())["data"]
        assert deleted["deleted"] is True and deleted["id"] == created["id"], deleted
