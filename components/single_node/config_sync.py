"""Sidecar: the application's configuration follows its source while the pod runs (chapter 2).

Beside the application runs a program that reads the source again and again, checks what it got, swaps
the files all at once and tells the application. What is refused, or cannot be had, changes nothing.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    ResourceRequirementsArgsDict,
    Secret,
    VolumeArgsDict,
    VolumeMountArgsDict,
)

from components.arguments.errors import InputError
from components.pods.companion import Companion, Listener, Rule
from components.pods.on_change import OnChangeArgs, check_change
from components.pods.probes import asked
from components.single_node import configured, scraped
from components.values import checks
from components.values.edges import Edge
from components.values.metrics import Alert, ScrapeJob
from components.values.names import child

MODES = ("watch", "interval")
SOURCES = ("config_maps", "http", "git")

_CONFIG = "/etc/config-sync"
_SECRET = "/etc/config-sync-secret"  # noqa: S105 (a path)
_FOLDER = "/config"
_URL = re.compile(r"https?://[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[!-~]*)?")
_SECURE_URL = re.compile(_URL.pattern.replace("https?", "https"))
_LABEL_KEY = re.compile(
    r"([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?")
_LABEL_LIMIT = 63
_BRANCH = re.compile(r"[A-Za-z0-9][-._/A-Za-z0-9]*")
_LONGEST_PART = 255
_PORTS = (1024, 65535)
_LONGEST_SECONDS = 86_400
# Old and new files, and what a check may write beside them.
_COPIES = 3


class HttpSourceArgs(TypedDict):
    """One document over HTTP, asked for by interval; unchanged ones are not sent again (ETag)."""

    url: pulumi.Input[str]
    """``http://`` or ``https://``. It answers with a JSON object of names and texts."""
    file: NotRequired[str]
    """Name of the one file that the answer is. By default it is a JSON object of several."""
    authorization: NotRequired[pulumi.Input[str]]
    """Header Authorization, for example ``Bearer ...``. A secret; needs https."""
    authority: NotRequired[pulumi.Input[str]]
    """Certificate that the server's is verified with, PEM. Defaults to the image's own list."""


class GitSourceArgs(TypedDict):
    """A folder of a git repository, asked for by interval; fetched when its branch has moved."""

    url: pulumi.Input[str]
    """``http://`` or ``https://``, without a password."""
    branch: NotRequired[str]
    """Its branch. Defaults to main."""
    folder: NotRequired[str]
    """Folder in it. Defaults to the whole."""
    authority: NotRequired[pulumi.Input[str]]
    """Certificate that the server's is verified with, PEM. Defaults to the image's own list."""


class ConfigSyncArgs(TypedDict):
    """Arguments of ConfigSync. The source is one of ``config_maps``, ``http`` and ``git``."""

    image: pulumi.Input[str]
    """The project's image ``companions``, or one made from it that has the check's program; with a
    tag or digest."""
    config_maps: NotRequired[Mapping[str, str]]
    """Labels: the keys of all ConfigMaps of the namespace that have them are the files. Two of them
    with the same key are an error."""
    http: NotRequired[HttpSourceArgs]
    """A document over HTTP. Needs ``egress``."""
    git: NotRequired[GitSourceArgs]
    """A git repository. Needs ``egress``."""
    egress: NotRequired[Sequence[Edge]]
    """The way to an HTTP or git server."""
    mode: NotRequired[str]
    """``watch`` (default for ConfigMaps, and only theirs): a change is taken over at once, and all
    is read again each interval, whatever the watch said. ``interval``: only that."""
    interval_seconds: NotRequired[int]
    """Seconds between two readings, from 1. Defaults to 60."""
    stale_after_seconds: NotRequired[int]
    """Seconds without a success after which health is bad. Defaults to three intervals and 10 s."""
    unready_when_stale: NotRequired[bool]
    """Whether bad health makes the pod unready. Defaults to no: a source that is away must not take
    all the applications with it that go on well with what they have."""
    check: NotRequired[Sequence[str]]
    """Command that must end with 0 within 30 s before files are taken over. ``{folder}`` stands for
    the folder with them. It runs in this container. Defaults to none."""
    on_change: NotRequired[OnChangeArgs]
    """How the application is told, after each change but the first, which it starts with. A telling
    that fails is repeated. By default it is not told."""
    may_be_empty: NotRequired[bool]
    """Whether a source without any file is right. Defaults to no: then nothing changes."""
    size_mb: NotRequired[int]
    """Most MiB of all files together, from 1 to 256. Defaults to 4."""
    port: NotRequired[int]
    """Port of the health, the probes and the metrics. Defaults to 9180."""
    scrapers: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods that may read health and metrics. Default to those labelled ``dds/scrapes:
    "true"``."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace, the same as that of the pods. Defaults to the provider's."""


class ConfigSync(pulumi.ComponentResource):
    """A folder that is kept like its source, shared with the application.

    Registers its configuration. ``companion`` goes to a workload, which mounts the folder with
    ``mount``. The application starts once the folder has its first files.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    job: ScrapeJob
    """What Prometheus scrapes."""
    alerts: tuple[Alert, ...]
    """Rules for Prometheus."""

    def __init__(
        self, name: str, args: ConfigSyncArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'ConfigSync "{name}"'
        settings = _checked(where, name, args)
        super().__init__("dds:index:ConfigSync", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        metadata = configured.metadata("config-sync", name, "sidecar", args.get("namespace"))
        files = configured.configured(
            name, _CONFIG, {"config.json": settings.json()}, metadata=metadata, opts=own
        )
        self._volume = child(name, "files", limit=63)
        volumes: list[VolumeArgsDict] = [
            *files.volumes,
            {
                "name": self._volume,
                "empty_dir": {"size_limit": f"{_COPIES * settings.size_mb}Mi"},
            },
        ]
        mounts: list[VolumeMountArgsDict] = [
            *files.mounts,
            {"name": self._volume, "mount_path": _FOLDER},
        ]
        depends_on: list[pulumi.Resource] = [files.config]
        if settings.secrets:
            secret = Secret(
                name,
                metadata=metadata,
                type="Opaque",
                string_data={
                    key: pulumi.Output.secret(value) for key, value in settings.secrets.items()
                },
                immutable=True,
                opts=own,
            )
            volume = child(name, "secret", limit=63)
            volumes.append(
                {
                    "name": volume,
                    "secret": {"secret_name": secret.metadata["name"], "default_mode": 0o440},
                }
            )
            mounts.append({"name": volume, "mount_path": _SECRET, "read_only": True})
            depends_on.append(secret)
        container: ContainerArgsDict = {
            "name": name,
            "image": args["image"],
            "command": ["python3", "-m", "companions.config_sync", f"{_CONFIG}/config.json"],
            "volume_mounts": mounts,
            # The application starts after it, so that it never sees an empty folder.
            "startup_probe": asked("/started", settings.port, 1, 300),
            "readiness_probe": asked(
                "/health" if args.get("unready_when_stale", False) else "/started",
                settings.port,
                5,
                2,
            ),
            "liveness_probe": asked("/live", settings.port, 10, 6),
        }
        if "resources" in args:
            container["resources"] = args["resources"]
        self.companion = Companion(
            name=name,
            containers=(container,),
            listeners=(Listener(settings.port, "config-sync"),),
            volumes=tuple(volumes),
            reloading=(self._volume,),
            pod_labels=scraped.labels(name),
            egress=tuple(args.get("egress", ())),
            ingress=settings.ingress,
            share_process_namespace="signal" in args.get("on_change", {}),
            rules=settings.rules,
            depends_on=tuple(depends_on),
        )
        self.job = scraped.job(name, settings.port, metadata, own)
        self.alerts = _alerts(name)
        self.register_outputs({})

    def mount(self, path: str) -> VolumeMountArgsDict:
        """Where the application has the folder: one of its ``volume_mounts``.

        :param path: absolute; files are ``path/<name>``
        """
        checks.absolute_path("ConfigSync", "mount", path)
        return {"name": self._volume, "mount_path": path, "read_only": True}


@dataclasses.dataclass(frozen=True)
class _Settings:
    source: Mapping[str, Any]
    secrets: Mapping[str, pulumi.Input[str]]
    watch: bool
    interval: int
    stale_after: int
    check: tuple[str, ...]
    on_change: Mapping[str, str] | None
    may_be_empty: bool
    size_mb: int
    port: int
    ingress: tuple[Edge, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What it may do at the cluster's API: labels cannot be part of a rule."""
        if self.source["kind"] != "config_map":
            return ()
        return (Rule(("configmaps",), ("get", "list", "watch")),)

    def json(self) -> pulumi.Input[str]:
        """The program's configuration file."""
        content = {
            "folder": _FOLDER,
            "source": self.source,
            "watch": self.watch,
            "interval_seconds": self.interval,
            "stale_after_seconds": self.stale_after,
            "check": list(self.check),
            "tell": self.on_change,
            "may_be_empty": self.may_be_empty,
            "most_bytes": self.size_mb * 2**20,
            "port": self.port,
        }
        if any(checks.is_deferred(value) for value in self.source.values()):
            return pulumi.Output.json_dumps(content, indent=1)
        return json.dumps(content, indent=1) + "\n"


def _checked(where: str, name: str, args: ConfigSyncArgs) -> _Settings:
    scraped.check(where, name, ConfigSyncArgs, args)
    source, secrets = _source(where, args)
    mode = checks.one_of(where, "mode", args.get("mode", _default_mode(source)), MODES)
    if mode == "watch" and source["kind"] != "config_map":
        raise InputError(
            where, "mode", mode, "must be interval: only ConfigMaps say when they have changed"
        )
    interval = checks.whole(where, args, "interval_seconds", 60, (1, _LONGEST_SECONDS))
    stale = checks.whole(
        where, args, "stale_after_seconds", 3 * interval + 10, (1, 4 * _LONGEST_SECONDS)
    )
    if stale <= interval:
        raise InputError(
            where,
            "stale_after_seconds",
            stale,
            f"must be above interval_seconds ({interval}), or health is bad between two readings",
        )
    on_change = args.get("on_change")
    if on_change is not None:
        check_change(where, on_change)
    port = checks.whole(where, args, "port", 9180, _PORTS)
    return _Settings(
        source=source,
        secrets=secrets,
        watch=mode == "watch",
        interval=interval,
        stale_after=stale,
        check=_command(where, args),
        on_change=None if on_change is None else {str(k): str(v) for k, v in on_change.items()},
        may_be_empty=bool(args.get("may_be_empty", False)),
        size_mb=checks.whole(where, args, "size_mb", 4, (1, 256)),
        port=port,
        ingress=scraped.edges(where, port, args.get("scrapers", scraped.DEFAULT_SCRAPERS)),
    )


def _default_mode(source: Mapping[str, Any]) -> str:
    return "watch" if source["kind"] == "config_map" else "interval"


def _source(
    where: str, args: ConfigSyncArgs
) -> tuple[dict[str, Any], dict[str, pulumi.Input[str]]]:
    """The program's description of its source, and what of it goes into a Secret."""
    given = [source for source in SOURCES if source in args]
    if len(given) != 1:
        raise InputError(where, "source", given, f"must be one of {', '.join(SOURCES)}")
    if "config_maps" in args:
        if "egress" in args:
            raise InputError(where, "egress", "<given>", "must be left out: it is for http and git")
        return {"kind": "config_map", "labels": _labels(where, args["config_maps"])}, {}
    if not args.get("egress"):
        raise InputError(
            where, "egress", None, "must say how the server is reached: all else is refused"
        )
    return _http(where, args["http"]) if "http" in args else _git(where, args["git"])


def _http(where: str, http: HttpSourceArgs) -> tuple[dict[str, Any], dict[str, pulumi.Input[str]]]:
    checks.known_arguments(f"{where}: http", HttpSourceArgs, http)
    form = _SECURE_URL if "authorization" in http else _URL
    source: dict[str, Any] = {"kind": "http", "url": _url(where, "http.url", http["url"], form)}
    secrets: dict[str, pulumi.Input[str]] = {}
    if "file" in http:
        source["file"] = _named(where, "http.file", http["file"], "the name of a file")
    if "authorization" in http:
        secrets["authorization"] = http["authorization"]
        source["authorization_file"] = f"{_SECRET}/authorization"
    if "authority" in http:
        secrets["authority.crt"] = http["authority"]
        source["authority_file"] = f"{_SECRET}/authority.crt"
    return source, secrets


def _git(where: str, git: GitSourceArgs) -> tuple[dict[str, Any], dict[str, pulumi.Input[str]]]:
    checks.known_arguments(f"{where}: git", GitSourceArgs, git)
    source: dict[str, Any] = {
        "kind": "git",
        "url": _url(where, "git.url", git["url"], _URL),
        "branch": _matching(where, "git.branch", git.get("branch", "main"), _BRANCH, "a branch"),
    }
    secrets: dict[str, pulumi.Input[str]] = {}
    if git.get("folder"):
        source["folder"] = _named(
            where, "git.folder", git["folder"], "a folder such as etc/app", folders=True
        )
    if "authority" in git:
        secrets["authority.crt"] = git["authority"]
        source["authority_file"] = f"{_SECRET}/authority.crt"
    return source, secrets


def _labels(where: str, labels: Any) -> dict[str, str]:
    if not isinstance(labels, Mapping) or not labels:
        raise InputError(where, "config_maps", labels, "must be labels, one at least")
    for key, value in labels.items():
        if (
            not _LABEL_KEY.fullmatch(str(key))
            or not _LABEL_VALUE.fullmatch(str(value))
            or len(str(value)) > _LABEL_LIMIT
        ):
            raise InputError(where, "config_maps", {key: value}, "must be a label and its value")
    return dict(labels)


def _url(
    where: str, argument: str, url: pulumi.Input[str], form: re.Pattern[str]
) -> pulumi.Input[str]:
    schemes = "http(s)" if form is _URL else "https"
    what = f"{schemes}://host/path without a password"
    if form is _SECURE_URL:
        what += ": over http, authorization could be read"
    return checks.checked(
        checks.public(where, argument, url),
        lambda text: _matching(where, argument, text, form, what),
    )


def _matching(where: str, argument: str, value: Any, form: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise InputError(where, argument, value, f"must be {what}")
    return value


def _named(where: str, argument: str, value: Any, what: str, *, folders: bool = False) -> str:
    """A name as the program takes it from a source."""
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or ("/" in value and not folders)
        or any(
            part in ("", ".") or part.startswith("..") or len(part.encode()) > _LONGEST_PART
            for part in value.split("/")
        )
    ):
        raise InputError(where, argument, value, f"must be {what}")
    return value


def _command(where: str, args: ConfigSyncArgs) -> tuple[str, ...]:
    if "check" not in args:
        return ()
    command: Any = args["check"]
    if isinstance(command, str) or not command or not all(isinstance(w, str) for w in command):
        raise InputError(where, "check", command, "must be the words of a command")
    return tuple(command)


def _alerts(job: str) -> tuple[Alert, ...]:
    return (
        Alert(
            "ConfigStale",
            f'config_sync_healthy{{job="{job}"}} == 0',
            "The configuration of {{ $labels.instance }} may not be what its source says.",
        ),
        Alert(
            "ConfigRefused",
            f'increase(config_sync_failures_total{{job="{job}",what="check"}}[10m]) > 0',
            "The source of {{ $labels.instance }} has files that its check refuses.",
            hold_seconds=0,
        ),
        Alert(
            "ConfigSyncDown",
            f'up{{job="{job}"}} == 0',
            "The configuration's sidecar at {{ $labels.instance }} cannot be scraped.",
        ),
    )
