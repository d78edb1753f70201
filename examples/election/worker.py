"""Works while its elector reports that it leads, and prints its fencing token."""

import json
import signal
import sys
import time
import urllib.request

ELECTOR = "http://127.0.0.1:4040"


def stop(*_: object) -> None:
    """Resign at SIGTERM: no work is in progress here, so the next leader may start at once."""
    urllib.request.urlopen(f"{ELECTOR}/resign", data=b"", timeout=2).close()
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
while True:
    asked = time.monotonic()
    with urllib.request.urlopen(f"{ELECTOR}/", timeout=2) as answer:
        standing = json.load(answer)
    if standing["leading"] and time.monotonic() < asked + standing["valid_for"]:
        # A real worker sends the token with each write, and the store refuses older ones.
        print(f"{standing['identity']} works with token {standing['token']}")
    else:
        print(f"{standing['identity']} waits for {standing['leader']}")
    time.sleep(1)
