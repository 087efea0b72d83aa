"""Small servers for the scenarios: a Kinto and a shop, both with the answers of the real thing's shape."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

TREE = Path(__file__).resolve().parents[2]
SCENARIOS = TREE / "scenarios"
_ENTRY = "import sys; from molotov.{0} import main; sys.exit(main())"


def tool(module: str, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Run one of the package's commands (`run`, `slave`, `quickstart`) as a user would."""
    command = [sys.executable, "-c", _ENTRY.format(module), *map(str, arguments)]
    env = {**os.environ, **options.pop("env", {})}
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, **options)


def molotov(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return tool("run", *arguments, **options)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, content=None, content_type="application/json", **headers):
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        if content is None:
            body = b""
        self.send_response(status)
        if content is not None:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        self.server.seen.append((self.command, self.path))
        self.serve(self.body())

    do_POST = do_PUT = do_DELETE = do_GET


class KintoStub(Handler):
    """What Kinto documents for its root and for the records of the default bucket."""

    def serve(self, body):
        broken = self.server.options.get("broken")
        url = urlsplit(self.path)
        if not url.path.startswith("/v1/"):
            status = 404 if broken == "redirect" else 307
            location = f"http://{self.headers['Host']}/v1{self.path}"
            return self.answer(status, "<html></html>", "text/html; charset=UTF-8", Location=location)
        if url.path == "/v1/":
            name = "pinto" if broken == "root" else "kinto"
            capabilities = {"basicauth": {}, "default_bucket": {}}
            return self.answer(200, {"project_name": name, "capabilities": capabilities})
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic" or broken == "authorization":
            return self.answer(401, {"code": 401, "errno": 104, "error": "Unauthorized"})
        user = base64.b64decode(credentials).decode().partition(":")[0]
        parts = url.path.removeprefix("/v1/").split("/")
        if parts[:3] != ["buckets", "default", "collections"] or parts[4:5] != ["records"]:
            return self.answer(404, {"code": 404, "errno": 111, "error": "Not Found"})
        records = self.server.data.setdefault((user, parts[3]), {})
        return self.records(self.command, records, parts[5:], body, parse_qs(url.query))

    def records(self, method, records, name, body, query):
        broken = self.server.options.get("broken")
        with self.server.lock:
            self.server.clock += 1
            now = 1795480257000 + self.server.clock
            if method == "POST" and not name:
                record = {**json.loads(body)["data"], "id": str(uuid.uuid4()), "last_modified": now}
                records[record["id"]] = record
                return self.answer(201, {"permissions": {"write": []}, "data": record}, ETag=f'"{now}"')
            if method == "GET" and not name:
                newest = sorted(records.values(), key=lambda record: -record["last_modified"])
                newest = [] if broken == "list" else newest[: int(query.get("_limit", ["100"])[0])]
                return self.answer(200, {"data": newest})
            record = records.get(name[0])
            if record is None:
                return self.answer(404, {"code": 404, "errno": 110, "error": "Not Found"})
            if method == "DELETE":
                del records[name[0]]
                gone = {"id": name[0], "last_modified": now, "deleted": broken != "delete"}
                return self.answer(200, {"data": gone})
            if broken == "read":
                record = {**record, "title": "another"}
            return self.answer(200, {"data": record}, ETag=f'"{record["last_modified"]}"')


class Shop(Handler):
    """The service that scenarios/many.py describes."""

    def serve(self, body):
        path = urlsplit(self.path).path
        route = f"{self.command} {path}"
        if route == "GET /":
            return self.answer(200, "<h1>Shop</h1>", "text/html; charset=utf-8")
        if route == "GET /items":
            page = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
            return self.answer(200, {"page": page, "items": [{"id": number} for number in range(1, 6)]})
        if self.command == "GET" and path.startswith("/items/"):
            return self.answer(200, {"id": int(path.removeprefix("/items/"))})
        if route == "POST /login":
            token = uuid.uuid4().hex
            self.server.data[token] = json.loads(body)["user"]
            return self.answer(200, {"token": token})
        if self.headers.get("X-Token") not in self.server.data:
            return self.answer(401, {"error": "log in first"})
        if route == "DELETE /login":
            del self.server.data[self.headers["X-Token"]]
            return self.answer(204)
        if route == "POST /cart":
            return self.answer(201, {"item": int(parse_qs(body.decode())["item"][0])})
        if route == "POST /checkout":
            return self.answer(200, json.loads(body))
        return self.answer(404, {"error": "not found"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def serving(handler: type[Handler], **options) -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """Yield the URL (no final slash) of a server on a free loopback port, and the server."""
    server = _Server(("127.0.0.1", 0), handler)
    server.seen, server.data, server.lock, server.clock = [], {}, threading.Lock(), 0
    server.options = options
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
