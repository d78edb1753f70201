"""The images that a composition runs, built from this repository or taken from elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from dds_patterns.arguments import (
    DISTINCT,
    Default,
    DefaultsTo,
    InputError,
    Later,
    matching,
    nearest,
    resolved,
)
from dds_patterns.arguments.images import Image, Registry
from dds_patterns.arguments.local import LocalPath
from dds_patterns.arguments.names import check_resource_name

_TAG = "current"
_PREFIX = "dds"

ImageName = Annotated[
    str,
    matching(
        r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*",
        "the name of an image and its folder, such as redis-exporter",
        most=128,
        odd=("Redis", "a/b", "..", "a b", "-a", "a-", "a:1", "a\n"),
    ),
]
"""Name of an image, and of the folder that it is built from."""


class ImageCatalogArgs(TypedDict):
    """Arguments of ImageCatalog."""

    names: Annotated[Sequence[ImageName], DISTINCT]
    """Folders to build images from, unless they are overridden."""
    registry: NotRequired[Later[Registry]]
    """The registry to push to; the nodes pull from it under the same name. Required only if an
    image is built."""
    folder: NotRequired[Annotated[LocalPath, Default("images")]]
    """Where those folders are, relative to the program."""
    overrides: NotRequired[Annotated[Mapping[ImageName, Later[Image]], Default({})]]
    """Images to use instead of building them, by name."""
    base: NotRequired[Annotated[Later[Image], DefaultsTo("the one of each Dockerfile")]]
    """Base image, passed to the builds as the argument BASE."""


class ImageCatalog(pulumi.ComponentResource):
    """One image per folder, built and pushed when something in the folder has changed.

    ``reference`` names an image by its digest, so its workloads roll out when it has changed, and
    only then.
    """

    def __init__(
        self, name: str, args: ImageCatalogArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        self._where = f'ImageCatalog "{name}"'
        args = _checked(self._where, name, args)
        super().__init__("dds:index:ImageCatalog", name, {**args}, opts)
        folder = Path(args["folder"])
        registry = pulumi.Output.from_input(args.get("registry", ""))
        self._references: dict[str, pulumi.Output[str]] = {}
        for image in args["names"]:
            if image in args["overrides"]:
                self._references[image] = pulumi.Output.from_input(args["overrides"][image])
                continue
            build: docker.DockerBuildArgsDict = {
                "context": str(folder / image),
                "dockerfile": str(folder / image / "Dockerfile"),
            }
            if "base" in args:
                build["args"] = {"BASE": args["base"]}
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


def _checked(where: str, name: str, args: ImageCatalogArgs) -> ImageCatalogArgs:
    check_resource_name(where, name)
    args = resolved(where, ImageCatalogArgs, args)
    names, overrides = args["names"], args["overrides"]
    there = sorted(path.parent.name for path in Path(args["folder"]).glob("*/Dockerfile"))
    for image, override in overrides.items():
        if image not in there and image not in names:
            raise InputError(
                where, f"overrides[{image}]", override,
                f"there is no image {image} to replace: {nearest(image, {*there, *names})}",
            )  # fmt: skip
    for position, image in enumerate(names):
        if image in overrides:
            continue
        if image not in there:
            raise InputError(where, f"names[{position}]", image, nearest(image, there))
        if "registry" not in args:
            raise InputError(where, "registry", None, f"must be given: {image} is built")
    return args
