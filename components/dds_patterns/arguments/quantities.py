"""Declared types of quantities: processors, memory, volumes, percentages, and the resources of a container."""

import re
from collections.abc import Collection
from typing import Annotated, Any

from pulumi_kubernetes.core.v1 import ResourceRequirementsArgsDict

from dds_patterns.arguments.constraints import Constraint, between, nearest
from dds_patterns.arguments.deferred import checked, is_deferred
from dds_patterns.arguments.place import Place

_QUANTITY = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,9})?)(?P<unit>m|[kMGTPE]|[KMGTPE]i)?")
_UNITS = {
    None: 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def amount(quantity: str) -> float:
    """The number that a well-formed quantity stands for."""
    parsed = _QUANTITY.fullmatch(quantity)
    if parsed is None:
        raise ValueError(f"not a quantity: {quantity!r}")
    return float(parsed["number"]) * _UNITS[parsed["unit"]]


def _quantity(
    units: Collection[str | None], least: float, says: str, odd: Collection[str]
) -> Constraint:
    def holds(text: str) -> bool:
        parsed = _QUANTITY.fullmatch(text)
        return parsed is not None and parsed["unit"] in units and amount(text) >= least

    return Constraint(says, holds, ("", "0", "-1", "1 Gi", "1gb", "1KiB", "many", "1e3", *odd))


_BYTES = ("k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_CPU = _quantity(
    (None, "m"), 0.001, "a number of processors such as 250m or 2", ("64Mi", "1k", "0.0001")
)
_MEMORY = _quantity(
    _BYTES, 4 * 2**20, "a size of at least 4Mi, such as 64Mi", ("64m", "64", "1Mi", "250m")
)
_SIZE = _quantity(_BYTES, 1, "a size such as 64Mi", ("64m", "64", "250m"))
_VOLUME = _quantity(
    _BYTES, 32 * 2**20, "a size of at least 32Mi, such as 1Gi", ("1Mi", "64m", "64")
)
_COUNT = _quantity((None,), 1, "a whole number", ("0.5",))

Cpu = Annotated[str, _CPU]
"""Processors, ``250m`` or ``2``."""
Memory = Annotated[str, _MEMORY]
"""Memory of a container."""
Size = Annotated[str, _SIZE]
"""Size other than that of a container's memory or a persistent volume."""
VolumeSize = Annotated[str, _VOLUME]
"""Size of a persistent volume."""

Percent = Annotated[
    float,
    between(0, 100),
    Constraint(
        "a number with at most two decimals",
        lambda percent: round(percent, 2) == percent,
        (0.00005, 0.001, 99.995, 0.1 + 0.2),
    ),
]
"""A share in percent, as nginx splits clients."""

NO_LIMIT = "none"
"""The limit of cpu of a container without one."""

_NATIVE = {"cpu": _CPU, "memory": _MEMORY, "ephemeral-storage": _SIZE}


class _Resources(Constraint):
    """Requests and limits, each a quantity of its kind; a plain ``none`` removes the limit of cpu."""

    def check(self, place: Place, value: Any) -> Any:
        """The resources, or InputError."""
        found = dict(value)
        for part in ("requests", "limits"):
            if is_deferred(value.get(part)):
                place.key(part).refuse_deferred(
                    "must be a plain mapping; its values may be Outputs"
                )
            if part in value:
                found[part] = {
                    resource: self._limit(place.key(part).key(resource), resource, quantity)
                    if part == "limits" and quantity == NO_LIMIT
                    else self._quantity(place.key(part).key(resource), resource, quantity)
                    for resource, quantity in value[part].items()
                }
        return found

    def _limit(self, place: Place, resource: str, quantity: str) -> Any:
        if resource == "cpu":
            return quantity
        if resource in _NATIVE:
            place.refuse(
                quantity,
                f"must be {_NATIVE[resource].says}: without a limit one container can starve the "
                "others on its node. Only the limit of cpu can be removed",
            )
        return self._quantity(place, resource, quantity)

    def _quantity(self, place: Place, resource: str, quantity: Any) -> Any:
        if resource in _NATIVE:
            constraint = _NATIVE[resource]
        elif "/" in resource:
            constraint = _COUNT
        elif resource.startswith("hugepages-"):
            constraint = _SIZE
        else:
            place.refuse(quantity, f"is no resource; {nearest(resource, _NATIVE)}")
        return checked(quantity, lambda known: constraint.check(place, known))


_ODD_RESOURCES = (
    {"limits": {"memory": "64m"}}, {"limits": {"cpu": "64Mi"}}, {"limits": {"memmory": "1"}},
    {"requests": {"cpu": "-1"}}, {"limits": {"example.com/gpu": "0.5"}},
    {"requests": {"cpu": NO_LIMIT}}, {"limits": {"memory": NO_LIMIT}},
    {"limits": {"ephemeral-storage": NO_LIMIT}}, {"limits": {"example.com/gpu": NO_LIMIT}},
)  # fmt: skip
Resources = Annotated[
    ResourceRequirementsArgsDict,
    _Resources(f'requests and limits; limits.cpu "{NO_LIMIT}" is no limit', bool, _ODD_RESOURCES),
]
"""Requests and limits of a container; omitted ones keep the defaults of all containers."""
