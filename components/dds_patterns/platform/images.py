"""The images that a program runs, built from their folders or taken from elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from dds_patterns.arguments import (
    DISTINCT,
    Default,
    DefaultsTo,
    InputError,
    Later,
    nearest,
    resolved,
)
from dds_patterns.arguments.images import Image, ImageName, Registry
from dds_patterns.arguments.local import LocalPath
from dds_patterns.arguments.names import check_resource_name
from dds_patterns.arguments.place import Place

_TAG = "current"
_PREFIX = "dds"


def _own_folder(_place: Place, _args: Mapping[str, Any]) -> str:
    package, program = Path(__file__).parents[1], Path.cwd()
    # A wheel has the folders in the package, a checkout beside `components`.
    installed = package / "images"
    folder = installed if installed.is_dir() else package.parents[1] / "images"
    # The path is in the state; a relative one is the same on every machine.
    return str(folder.relative_to(program) if folder.is_relative_to(program) else folder)


class ImageCatalogArgs(TypedDict):
    """Arguments of ImageCatalog."""

    names: Annotated[Sequence[ImageName], DISTINCT]
    """Folders to build images from, unless they are overridden."""
    registry: NotRequired[Later[Registry]]
    """The registry to push to; the nodes pull from it under the same name. Required only if an
    image is built."""
    folder: NotRequired[
        Annotated[LocalPath, DefaultsTo("the project's own, which are in the package", _own_folder)]
    ]
    """Where those folders are, relative to the program."""
    overrides: NotRequired[Annotated[Mapping[ImageName, Later[Image]], Default({})]]
    """Images to use instead of building them, by name."""
    base: NotRequired[Annotated[Later[Image], DefaultsTo("the one of each Dockerfile")]]
    """Base image, passed to the builds as the argument BASE."""


class ImageCatalog(pulumi.ComponentResource):
    """One image per folder, built and pushed when something in the folder has changed.

    An image is named by its digest, so its workloads roll out when it has changed, and only then.
    """

    images: Mapping[str, pulumi.Output[str]]
    """All images by name, for ``hosting.images``."""

    def __init__(
        self, name: str, args: ImageCatalogArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        self._where = f'ImageCatalog "{name}"'
        args = _checked(self._where, name, args)
        super().__init__("dds:index:ImageCatalog", name, {**args}, opts)
        folder = Path(args["folder"])
        registry = pulumi.Output.from_input(args.get("registry", ""))
        images: dict[str, pulumi.Output[str]] = {}
        for image in args["names"]:
            if image in args["overrides"]:
                images[image] = pulumi.Output.from_input(args["overrides"][image])
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
            images[image] = built.repo_digest
        self.images = images
        self.register_outputs({"images": images})

    def reference(self, name: str) -> pulumi.Output[str]:
        """The image to run for ``name``: by digest where it is built here.

        :raises InputError: for a name that the catalog was not made with
        """
        if name not in self.images:
            raise InputError(self._where, "name", name, nearest(name, self.images))
        return self.images[name]


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
