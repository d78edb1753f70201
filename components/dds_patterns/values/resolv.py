"""What a container's /etc/resolv.conf says, for programs that do not read it themselves."""

FILE = "/etc/resolv.conf"


def script(output: str) -> str:
    """A program for awk that reads FILE; it fails where there is no name server.

    :param output: statements at its end, which have ``servers`` (each with a blank before it),
        ``namespace`` and ``domain``, those of the pod and of its cluster
    """
    return _SCRIPT.replace("OUTPUT", output.strip("\n"))


_SCRIPT = r"""
$1 == "nameserver" {
  address = $2
  sub(/%.*/, "", address)
  servers = servers " " (index(address, ":") ? "[" address "]" : address)
}
$1 == "search" && namespace == "" {
  for (i = 2; i <= NF; i++) {
    at = index($i, ".svc.")
    if (at && namespace == "") {
      namespace = substr($i, 1, at - 1)
      domain = substr($i, at + 5)
      sub(/\.$/, "", domain)
    }
  }
}
END {
  if (servers == "") { print "no nameserver in /etc/resolv.conf" > "/dev/stderr"; exit 1 }
  if (namespace == "") namespace = "default"
  if (domain == "") domain = "cluster.local"
OUTPUT
}
"""
