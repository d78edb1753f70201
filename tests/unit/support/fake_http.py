"""A server on the loopback with given responses for each path."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Any

Answer = tuple[int, Any] | Callable[[Message], tuple[int, Any]]
"""A status and a text or JSON value; or a function from the request's headers to both."""


@contextlib.contextmanager
def answering(answers: Mapping[str, list[Answer]]) -> Iterator[str]:
    """Serve each path's responses in turn, the last one from then on; the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            left = answers[self.path.partition("?")[0]]
            answer = left.pop(0) if len(left) > 1 else left[0]
            status, content = answer(self.headers) if callable(answer) else answer
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            if status in range(300, 400):
                self.send_header("Location", text)
            # Programs close their connections only by exiting.
            self.send_header("Connection", "close")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
