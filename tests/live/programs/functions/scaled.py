"""A function that costs time on a processor."""

import time


def handler(context):
    until = time.process_time() + context.json["milliseconds"] / 1000
    while time.process_time() < until:
        pass
    return {"done": True}
