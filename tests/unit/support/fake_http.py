"""A server on the loopback that answers a path with what it is told, for programs that ask several."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Any

Answer = tuple[int, Any] | Callable[[Message], tuple[int, Any]]
"""A status and a text, or what becomes JSON; or what makes both of the request's headers."""


@contextlib.contextmanager
def answering(answers: Mapping[str, list[Answer]]) -> Iterator[str]:
    """Serve each path's answers one after the other, the last of them for good; the address."""

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
            # Programs that end leave the closing of connections to their end.
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
