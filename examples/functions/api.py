"""An existing API that requires a name and a colour."""

import http.server
import json


class Api(http.server.BaseHTTPRequestHandler):
    """Echoes the order."""

    def do_POST(self) -> None:
        """Answer one order."""
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = bool(order.get("name") and order.get("color"))
        body = json.dumps({"painted": order} if right else {"error": "name and color"}).encode()
        self.send_response(200 if right else 422)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("", 8080), Api).serve_forever()
