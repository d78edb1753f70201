"""A function that takes as long as it is told."""

import logging
import threading
import time

import flask

_running: list[int] = []
_most: list[int] = []
_mutex = threading.Lock()


def handler(context):
    order = context.json or {}
    if "fail" in order:
        raise ValueError(order["fail"])
    if "lines" in order:
        return flask.Response(lines(order["lines"]))
    with _mutex:
        _running.append(1)
        _most[:] = [max(*_most, len(_running), 0)]
    try:
        print("said by print", order.get("say", ""))
        logging.getLogger("shop").warning("said by logging")
        if order.get("spin"):
            while True:
                pass
        time.sleep(order.get("sleep", 0))
    finally:
        with _mutex:
            _running.pop()
    return {
        "most": _most[0],
        "id": context.request_id,
        "trace": context.trace,
        "event": context.event,
    }


def lines(count):
    """One each second."""
    for number in range(count):
        yield f"{number}\n"
        time.sleep(1)


def on_event(event):
    """In the framework's own form."""
    if event.data.get("fail"):
        raise ValueError("refused")
    print("event", event["id"], event["type"], event.data)
