"""Shapes of the commands with which a reader tries a composition out, its output ``try``."""

import pulumi

CURL = "curl -s --retry 20 --retry-connrefused"
"""Asks until the forwarded port is there."""


def forwarded(
    namespace: str, target: pulumi.Input[str], port: int, command: str
) -> pulumi.Output[str]:
    """A command that finds a port of the cluster at localhost while it runs.

    :param target: ``deploy/<name>`` or a pod's name
    """
    return pulumi.Output.concat(
        f"(kubectl -n {namespace} port-forward ", target, f" {port} >&2 & {command}; kill $!)"
    )


def output(stack: str, name: str, file: str) -> str:
    """Writes an output of the stack to a file."""
    return f"pulumi stack output {name} --stack {stack} > {file}"


def reconfigured(stack: str, setting: str, value: object) -> str:
    """Changes a setting of the stack and brings it up to date."""
    return (
        f"pulumi config set dds:{setting} {value} --stack {stack} && "
        f"pulumi up --yes --stack {stack}"
    )
