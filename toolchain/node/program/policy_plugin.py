#!/usr/bin/python3 -IS
"""CNI plugin, last in the chain: a pod starts only once the node's policies cover its address.

It sends the new pod's address to the node's policy loop and waits until that confirms it. Otherwise the
pod's sandbox is not created, and the kubelet retries: a pod never runs uncovered. It has no imports of
the project, because it is started for each pod.
"""

import contextlib
import json
import os
import socket
import sys

SOCKET = "/run/node/policy.sock"
SECONDS = 15.0


def _request(message: dict[str, str]) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(SECONDS)
        stream.connect(SOCKET)
        stream.sendall(json.dumps(message).encode() + b"\n")
        return stream.makefile().readline().strip()


def _arguments() -> dict[str, str]:
    pairs = os.environ.get("CNI_ARGS", "").split(";")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def main() -> int:
    """Handles one call of the container runtime; returns CNI's exit status."""
    command = os.environ.get("CNI_COMMAND", "")
    config = json.load(sys.stdin)
    if command == "VERSION":
        print(json.dumps({"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}))
        return 0
    arguments = _arguments()
    message = {
        "command": command,
        "namespace": arguments.get("K8S_POD_NAMESPACE", ""),
        "name": arguments.get("K8S_POD_NAME", ""),
        "uid": arguments.get("K8S_POD_UID", ""),
        "sandbox": os.environ.get("CNI_CONTAINERID", ""),
    }
    if command == "DEL":
        # A loop that does not run has no entry of the pod.
        with contextlib.suppress(OSError):
            _request(message)
        return 0
    if command == "ADD":
        result = config["prevResult"]
        message["ip"] = result["ips"][0]["address"].split("/")[0]
        try:
            answer = _request(message)
        except OSError as error:
            answer = f"the policy loop does not respond: {error}"
        if answer != "covered":
            print(json.dumps({"cniVersion": "0.4.0", "code": 100, "msg": answer}))
            return 1
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
