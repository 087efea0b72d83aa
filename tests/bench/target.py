"""The server that is loaded: one nginx process, pinned to a core, that counts what it answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

ANSWER = '{"result":"OK","message":"a static body of about one hundred bytes, as small services send","n":1}'

_CONFIGURATION = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  ssl_certificate {directory}/certificate.pem;
  ssl_certificate_key {directory}/key.pem;
  ssl_protocols TLSv1.2 TLSv1.3;
  server {{
    listen 127.0.0.1:{port} backlog=4096 reuseport;
    listen 127.0.0.1:{tls_port} ssl backlog=4096 reuseport;
    location = /count {{ stub_status; }}
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""


def _two_free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


class Nginx:
    """A running nginx with `url` and `tls_url`; `answered()` is the number of requests it has answered."""

    def __init__(self, directory: Path, core: int) -> None:
        self._directory = directory
        self._polls = 0
        self._connection: socket.socket | None = None
        # nginx drops its privileges, and its worker has to get through to the temporary directory.
        directory.chmod(0o755)
        self._make_certificate()
        self._port, tls_port = _two_free_ports()
        self.url = f"http://127.0.0.1:{self._port}/"
        self.tls_url = f"https://127.0.0.1:{tls_port}/"
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(directory=directory, port=self._port, tls_port=tls_port, answer=ANSWER)
        )
        self._process = subprocess.Popen(
            ["nginx", "-c", str(configuration), "-p", str(directory)], stderr=subprocess.DEVNULL
        )
        os.sched_setaffinity(self._process.pid, {core})
        self._wait_until_it_listens()

    def _make_certificate(self) -> None:
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
        files = [
            "-keyout",
            str(self._directory / "key.pem"),
            "-out",
            str(self._directory / "certificate.pem"),
        ]
        name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run([*command, *files, *name], check=True, capture_output=True)

    def _wait_until_it_listens(self) -> None:
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        log = self._directory / "error.log"
        raise SystemExit("nginx didn't start: " + (log.read_text().strip() if log.exists() else "no log"))

    def answered(self) -> int:
        """Return how many requests were answered since the start, without those that asked this."""
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self._port), 30)
        self._connection.sendall(b"GET /count HTTP/1.1\r\nHost: bench\r\n\r\n")
        received = b""
        while b"Waiting" not in received:
            piece = self._connection.recv(4096)
            if not piece:
                raise SystemExit("nginx closed its status connection")
            received += piece
        self._polls += 1
        counters = received.partition(b"\r\n\r\n")[2].splitlines()[2]
        return int(counters.split()[2]) - self._polls

    def stop(self) -> None:
        """Stop the server."""
        if self._connection is not None:
            self._connection.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
