"""A shard's server: says which shard it is, in which pod, and the word that it was given."""

import http.server
import json
import os
import signal
import socket
import threading


class Leaf(http.server.BaseHTTPRequestHandler):
    """Each answer ends its connection, so that the next request may come to another replica."""

    timeout = 10

    def do_GET(self) -> None:
        """Answer one request."""
        told = {
            "shard": int(os.environ["SHARD"]),
            "pod": socket.gethostname(),
            "word": os.environ["WORD"],
        }
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Its end loses no request that is being answered."""

    daemon_threads = False
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("", 8080), Leaf)
    # What is the first process of a container ends by no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    server.server_close()
