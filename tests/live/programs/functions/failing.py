"""A decorator that fails where the request says so."""


def handler(context):
    obj = context.json
    if obj.get("fail") == "request":
        raise RuntimeError("the decorator is broken")
    obj["decorated"] = True
    return call_my_api(obj)  # noqa: F821


def answer(context, answer):
    if context.json.get("fail") == "response":
        raise RuntimeError("the decorator is broken on the way back")
    return {**answer, "by": context.request_id}
