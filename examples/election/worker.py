"""Works while its elector says that it leads, and says with which token."""

import json
import signal
import sys
import time
import urllib.request

ELECTOR = "http://127.0.0.1:4040"


def stop(*_: object) -> None:
    """Told to end: no work is under way here, so the next one may lead at once."""
    urllib.request.urlopen(f"{ELECTOR}/resign", data=b"", timeout=2).close()
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
while True:
    asked = time.monotonic()
    with urllib.request.urlopen(f"{ELECTOR}/", timeout=2) as answer:
        standing = json.load(answer)
    if standing["leading"] and time.monotonic() < asked + standing["valid_for"]:
        # Whatever is written to now gets the token, and refuses older ones.
        print(f"{standing['identity']} works with token {standing['token']}")
    else:
        print(f"{standing['identity']} waits for {standing['leader']}")
    time.sleep(1)
