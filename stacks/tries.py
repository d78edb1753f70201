"""Commands for a user to try a composition, in its output ``try``."""

import pulumi

CURL = "curl -s --retry 20 --retry-connrefused"
"""Retries until the port is forwarded."""


def forwarded(
    namespace: str, target: pulumi.Input[str], port: int, command: str
) -> pulumi.Output[str]:
    """A command that runs with a port of the cluster forwarded to localhost.

    :param target: ``deploy/<name>`` or a pod's name
    """
    return pulumi.Output.concat(
        f"(kubectl -n {namespace} port-forward ", target, f" {port} >&2 & {command}; kill $!)"
    )


def output(stack: str, name: str, file: str) -> str:
    """A command that writes an output of the stack to a file."""
    return f"pulumi stack output {name} --stack {stack} > {file}"


def reconfigured(stack: str, setting: str, value: object) -> str:
    """A command that changes a setting of the stack and updates it."""
    return (
        f"pulumi config set dds:{setting} {value} --stack {stack} && "
        f"pulumi up --yes --stack {stack}"
    )
