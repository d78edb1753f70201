"""A small web front end, whose pages come from localhost.

GET /page?user=<name>  fetches the page of a user and returns it as JSON.
GET /livez, /readyz    200 as long as the program runs: an outage of the pages must not make the
                       front end unready.

Environment: PORT (8000), PAGES (127.0.0.1:8080), USER_HEADER (X-User-Id).
"""

import http.client
import os
import urllib.parse

from serving import Handler, Server

MOST_BYTES = 2**20


class Front(Handler):
    """Responds with JSON; if the page cannot be fetched, with a 503."""

    def do_GET(self) -> None:
        """Respond to one request."""
        url = urllib.parse.urlsplit(self.path)
        user = urllib.parse.parse_qs(url.query).get("user", [""])[0]
        if url.path in {"/livez", "/readyz"}:
            self.answer(200, {"ok": True})
        elif url.path == "/page" and user.isprintable():
            self._page(user)
        else:
            self.answer(404, {"error": "not /page?user=<name>"})

    def _page(self, user: str) -> None:
        host, _, port = os.environ.get("PAGES", "127.0.0.1:8080").rpartition(":")
        header = os.environ.get("USER_HEADER", "X-User-Id")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        try:
            # A user's name may have characters that http.client cannot encode.
            connection.request("GET", "/", headers={header: user.encode()} if user else {})
            response = connection.getresponse()
            page = _whole(response).decode(errors="replace")
            arm = response.getheader("X-Arm")
        except (OSError, http.client.HTTPException) as error:
            self.answer(503, {"error": str(error)})
            return
        finally:
            connection.close()
        status = 200 if response.status == 200 else 503  # noqa: PLR2004
        self.answer(status, {"user": user, "arm": arm, "page": page})

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log failed requests."""
        if code != http.HTTPStatus.OK:
            super().log_request(code, size)


def _whole(response: http.client.HTTPResponse) -> bytes:
    """The complete body; an HTTPException if it is truncated or too long."""
    body = response.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise http.client.HTTPException(f"the page has more than {MOST_BYTES} bytes")
    # read(size) does not raise for a truncated body.
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body


def main() -> None:
    """Serve until SIGTERM."""
    Server("", int(os.environ.get("PORT", "8000")), Front).run()


if __name__ == "__main__":
    main()
