"""The images that a composition runs, built from this repository or taken from elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from components.arguments.errors import InputError
from components.values.checks import image_reference, known_arguments, nearest, plain, unique

_TAG = "current"
_PREFIX = "dds"


class ImageCatalogArgs(TypedDict):
    """Arguments of ImageCatalog."""

    registry: pulumi.Input[str]
    """The registry to push to, host:port, reached under the same name by the cluster's nodes."""
    names: Sequence[str]
    """Folders to build images from, unless an override takes their place."""
    folder: NotRequired[str]
    """Where those folders are, relative to the program. Defaults to ``images``."""
    overrides: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Image references by name that are used instead of building; each has a tag or digest."""
    base: NotRequired[pulumi.Input[str]]
    """Base image, handed to the builds as the argument BASE. Defaults to what each Dockerfile
    says."""


class ImageCatalog(pulumi.ComponentResource):
    """One image per folder, built and pushed when something in the folder has changed.

    ``reference`` names an image by its digest, so what uses it is rolled when it has changed, and
    only then.
    """

    def __init__(
        self, name: str, args: ImageCatalogArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        self._where = f'ImageCatalog "{name}"'
        folder, names, overrides = _checked(self._where, args)
        super().__init__("dds:index:ImageCatalog", name, {**args}, opts)
        registry = pulumi.Output.from_input(args["registry"])
        base = args.get("base")
        self._references: dict[str, pulumi.Output[str]] = {}
        for image in names:
            if image in overrides:
                self._references[image] = pulumi.Output.from_input(overrides[image])
                continue
            build: docker.DockerBuildArgsDict = {
                "context": str(folder / image),
                "dockerfile": str(folder / image / "Dockerfile"),
            }
            if base is not None:
                build["args"] = {"BASE": base}
            built = docker.Image(
                f"{name}-{image}",
                image_name=pulumi.Output.concat(registry, f"/{_PREFIX}/{image}:{_TAG}"),
                build=build,
                registry={"server": registry},
                opts=pulumi.ResourceOptions(parent=self),
            )
            self._references[image] = built.repo_digest
        self.register_outputs({"references": self._references})

    def reference(self, name: str) -> pulumi.Output[str]:
        """The image to run for ``name``: by digest where it is built here.

        :raises InputError: for a name that the catalog was not made with
        """
        if name not in self._references:
            raise InputError(self._where, "name", name, nearest(name, self._references))
        return self._references[name]


def _checked(
    where: str, args: ImageCatalogArgs
) -> tuple[Path, list[str], dict[str, pulumi.Input[str]]]:
    known_arguments(where, ImageCatalogArgs, args)
    folder = Path(args.get("folder") or "images")
    names = [*plain(where, "names", args["names"], "it decides which images are built")]
    unique(where, "names", names)
    there = sorted(path.parent.name for path in folder.glob("*/Dockerfile"))
    overrides = {
        name: image_reference(where, f"overrides[{name}]", reference)
        for name, reference in (args.get("overrides") or {}).items()
    }
    for name, override in overrides.items():
        if name not in there and name not in names:
            raise InputError(
                where, f"overrides[{name}]", override,
                f"there is no image {name} to replace: {nearest(name, {*there, *names})}",
            )  # fmt: skip
    for position, name in enumerate(names):
        if name not in there and name not in overrides:
            raise InputError(where, f"names[{position}]", name, nearest(name, there))
    return folder, names, overrides
