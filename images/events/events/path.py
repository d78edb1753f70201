"""The path of an event as text, from the records of its steps."""

from typing import Any

_ORDER = {"published": 0, "failed": 1, "ok": 2, "dead": 2}


def state(records: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Paths by state: ``done``, ``dead`` and ``waiting``."""
    kinds: dict[str, str] = {}
    ended: dict[str, str] = {}
    for entry in records:
        prefix = f"{entry['path']}/" if entry["path"] else ""
        for one in entry.get("next", ()):
            kinds[f"{prefix}{one['step']}"] = one["kind"]
        if entry["outcome"] in ("ok", "dead"):
            ended[entry["path"]] = entry["outcome"]
    result: dict[str, list[str]] = {"done": [], "dead": [], "waiting": []}
    for path in sorted({*kinds, *ended}):
        where = {"ok": "done", "dead": "dead", None: "waiting"}[ended.get(path)]
        result[where].append(path)
    return result


def text(event: str, records: list[dict[str, Any]]) -> str:
    """The records in order of time, each with its start and duration."""
    if not records:
        return f"no record of event {event}: it was never published, or its records have expired\n"
    ordered = sorted(records, key=lambda one: (one["at"], _ORDER[one["outcome"]]))
    start = ordered[0]["at"]
    kinds = {
        (f"{one['path']}/" if one["path"] else "") + following["step"]: following["kind"]
        for one in ordered
        for following in one.get("next", ())
    }
    # Each attempt of a step has its own line.
    width = max(len(_label(entry)) for entry in ordered)
    lines = [f"event {event}"]
    for entry in ordered:
        line = f"  {entry['at'] - start:9.3f} s  {_label(entry):<{width}}  {_words(entry, kinds)}"
        lines.append(line.rstrip())
    found = state(ordered)
    last = max(entry["at"] + entry["ms"] / 1000 for entry in ordered)
    summary = f"{len(found['done'])} done in {last - start:.3f} s"
    for what in ("waiting", "dead"):
        if found[what]:
            named = ", ".join(f"{path} ({kinds.get(path, 'required')})" for path in found[what])
            summary += f"; {'in the dead letters' if what == 'dead' else what}: {named}"
    return "\n".join([*lines, summary]) + "\n"


def _label(entry: dict[str, Any]) -> str:
    return entry["path"].replace("/", " > ") or "published"


def _words(entry: dict[str, Any], kinds: dict[str, str]) -> str:
    if entry["outcome"] == "published":
        return f"to {entry['source']}"
    attempt = f"attempt {entry['attempt']} of {entry['attempts']}"
    kind = kinds.get(entry["path"], "required")
    outcome = {
        "ok": f"ok, status {entry.get('status')}",
        "failed": f"failed, {entry.get('reason')}; again in {entry.get('again')} s",
        "dead": f"dead letter, {entry.get('reason')}",
    }[entry["outcome"]]
    return f"{kind:<8}  {attempt:<15}  {entry['ms']:8.1f} ms  {outcome}"
