"""The service of the rig's images: answers every request, and ends itself after as many as it is told.

python service.py PORT [REQUESTS [FILE]]

With FILE it writes there at its end, and complains when that fails.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

LEFT = int(sys.argv[2]) if len(sys.argv) > 2 else None


def end():
    try:
        for path in sys.argv[3:]:
            with open(path, "w") as file:
                file.write("x")
        print("out of breath", flush=True)
    except OSError as error:
        print(error, flush=True)
    os._exit(7)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global LEFT
        if LEFT is not None:
            LEFT -= 1
            if LEFT < 0:
                end()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


print("serving", os.environ.get("SERVICE_TOKEN", "")[:0], flush=True)
HTTPServer((os.environ.get("SERVICE_BIND", "127.0.0.1"), int(sys.argv[1])), Handler).serve_forever()
