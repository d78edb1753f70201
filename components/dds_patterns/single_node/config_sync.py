"""Sidecar: the application's configuration follows its source while the pod runs (chapter 2).

A program beside the application polls or watches the source, validates its content, swaps the files
atomically and notifies the application. While the source is unavailable or invalid, nothing
changes.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import VolumeMountArgsDict

from dds_patterns.arguments import (
    NOT_EMPTY,
    Default,
    DefaultsTo,
    InputError,
    Later,
    Secret,
    between,
    matching,
    one_of,
    resolved,
)
from dds_patterns.arguments.addresses import UnprivilegedPort
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.containers import EnvValue
from dds_patterns.arguments.declared import read
from dds_patterns.arguments.engine import resolved_value
from dds_patterns.arguments.files import MountPath
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import LABEL_LIMIT, Selector, check_name
from dds_patterns.arguments.place import Place
from dds_patterns.pods.companion import Rule
from dds_patterns.pods.images import image_of
from dds_patterns.pods.on_change import OnChangeArgs, check_change
from dds_patterns.single_node.scraped import Scraped
from dds_patterns.values.metrics import Alert
from dds_patterns.values.names import child
from dds_patterns.values.reach import NO_QUERY, ONE_ENDPOINT, Reach, speaking
from dds_patterns.workloads.files import Mounted
from dds_patterns.workloads.program import RESERVE, TEMPORARY, Program, ScrapedArgs

MODES = ("watch", "interval")
SOURCES = ("config_maps", "http", "git")

_CONFIG = "/etc/config-sync/config.json"
_SECRET = "/etc/config-sync-secret"  # noqa: S105 (a path)
_FOLDER = "/config"
_LONGEST_PART, _LONGEST_NAME = 255, 1024
_LONGEST_SECONDS = 86_400
# Room for the old files, the new files and what a check writes.
_COPIES = 3


def _is_name(text: str) -> bool:
    """Whether the program accepts it as a file name in its folder."""
    return (
        text.isprintable()
        and len(text.encode()) <= _LONGEST_NAME
        and all(
            part not in ("", ".")
            and not part.startswith("..")
            and len(part.encode()) <= _LONGEST_PART
            for part in text.split("/")
        )
    )


_ODD_NAMES = (
    "", ".", "..", "..a", "../a", "/a", "a/", "a//b", "a/../b", "a\n", "ü" * 128,
)  # fmt: skip
_FILE = Constraint(
    "the name of a file such as app.conf",
    lambda text: _is_name(text) and "/" not in text,
    (*_ODD_NAMES, "a/b"),
)
_SUBFOLDER = Constraint("a folder such as etc/app", _is_name, (*_ODD_NAMES, "a/" * 600 + "a"))
_BRANCH = matching(
    r"(?!.*(?:\.\.|//|/\.|\.lock(?:/|$)))[A-Za-z0-9](?:[-._/A-Za-z0-9]*[-_A-Za-z0-9])?",
    "a branch such as main",
    most=200,
    odd=("-x", "a..b", "a//b", "a/", "a.", "a.lock", "a/.b", "a b", "a~1", "a:b", "a\n", "ä"),
)
_AUTHORIZATION = matching(
    # The program strips a trailing line feed.
    r"[!-~][ -~]*\n?",
    "a line of ASCII characters such as Bearer ...",
    most=8192,
    odd=(" ", "\n", "a\nb: c", "a\r\n", "a\tb", "ä"),
)
_COMMAND = Constraint(
    "a program, and its arguments if any, of 65536 characters in all",
    lambda words: bool(words) and words[0] != "" and len("".join(words)) <= 2**16,
    ((), ("",), ("", "-t"), ("nginx", "x" * 2**16)),
)


_Server = Annotated[Reach, speaking("http", "https"), ONE_ENDPOINT]


class HttpSourceArgs(TypedDict):
    """One document over HTTP, polled at the interval; an unchanged one is not sent again (ETag)."""

    server: _Server
    """Its ``url`` returns a JSON object of file names and contents."""
    file: NotRequired[Annotated[str, _FILE]]
    """Name of the file for the response body. Without it, the body is a JSON object of several
    files."""
    authorization: NotRequired[Secret[Annotated[str, _AUTHORIZATION]]]
    """Header Authorization, for example ``Bearer ...``; needs https."""


class GitSourceArgs(TypedDict):
    """A folder of a git repository, polled at the interval; fetched if its branch has moved."""

    server: Annotated[_Server, NO_QUERY]
    """The repository is cloned from its ``url``."""
    branch: NotRequired[Annotated[str, _BRANCH, Default("main")]]
    """The branch."""
    folder: NotRequired[Annotated[str, _SUBFOLDER, DefaultsTo("the whole repository")]]
    """Folder in the repository."""


class ConfigSyncArgs(ScrapedArgs):
    """Arguments of ConfigSync. The source is one of ``config_maps``, ``http`` and ``git``."""

    image: NotRequired[Annotated[Later[Image], image_of("companions")]]
    """The project's image ``companions``, or one based on it that has the check's program."""
    config_maps: NotRequired[Annotated[Selector, NOT_EMPTY]]
    """Labels that select ConfigMaps of the namespace. Each of their keys is a file; a key that two
    of them have is an error."""
    http: NotRequired[HttpSourceArgs]
    """A document over HTTP."""
    git: NotRequired[GitSourceArgs]
    """A git repository."""
    mode: NotRequired[
        Annotated[str, one_of(*MODES), DefaultsTo("watch for ConfigMaps, interval for others")]
    ]
    """``watch``, for ConfigMaps only: a change is applied at once, and all are read again at each
    interval. ``interval``: polling only."""
    interval_seconds: NotRequired[Annotated[int, between(1, _LONGEST_SECONDS), Default(60)]]
    """Seconds between two polls."""
    stale_after_seconds: NotRequired[
        Annotated[
            int, between(1, 4 * _LONGEST_SECONDS), DefaultsTo("three intervals and 10 seconds")
        ]
    ]
    """Seconds without a successful poll after which the health check fails."""
    unready_when_stale: NotRequired[Annotated[bool, Default(False)]]
    """Whether a failing health check makes the pod unready. An unavailable source then makes all
    its applications unready, although they could run with their last configuration."""
    check: NotRequired[Annotated[Sequence[EnvValue], _COMMAND, DefaultsTo("no check")]]
    """Command that must exit with 0 within 30 s before new files are applied. ``{folder}`` is
    replaced by their folder. It runs in this container."""
    on_change: NotRequired[Annotated[OnChangeArgs, DefaultsTo("no notification")]]
    """How the application is notified, after each change but the first, which it starts with. A
    failed notification is retried."""
    may_be_empty: NotRequired[Annotated[bool, Default(False)]]
    """Whether a source without files is valid; otherwise it changes nothing."""
    size_mib: NotRequired[Annotated[int, between(1, 256), Default(4)]]
    """Largest total size of the files, in MiB."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(9180)]]
    """Port of health, probes and metrics."""


_ALERTS = (
    Alert(
        "ConfigStale",
        "config_sync_healthy{$job} == 0",
        "The configuration of {{ $labels.instance }} may be stale.",
    ),
    Alert(
        "ConfigRefused",
        'increase(config_sync_failures_total{$job,what="check"}[10m]) > 0',
        "The source of {{ $labels.instance }} has files that fail the check.",
        for_seconds=0,
    ),
    Alert(
        "ConfigSyncDown",
        "up{$job} == 0",
        "The configuration sidecar at {{ $labels.instance }} cannot be scraped.",
    ),
)


class ConfigSync(Scraped, pulumi.ComponentResource):
    """A folder that is kept in sync with its source and shared with the application.

    Registers its configuration. ``companion`` goes to a workload, which mounts the folder with
    ``mount``. The application starts once the folder has its first files.
    """

    volume: str
    """Name of the volume with the files, for a mount that ``mount`` does not make."""

    def __init__(
        self, name: str, args: ConfigSyncArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 50 characters, the first a letter; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        self._where = f'ConfigSync "{name}"'
        args = _checked(self._where, name, args)
        source, secrets, reaches = _source(args)
        super().__init__("dds:index:ConfigSync", name, {"image": args["image"]}, opts)
        self.volume = child(name, "files", limit=LABEL_LIMIT)
        program = Program(
            self._where,
            name,
            application="config-sync",
            part="sidecar",
            image=args["image"],
            hosting=args["hosting"],
            command=["python3", "-m", "companions.config_sync", _CONFIG],
            files={_CONFIG: _json(args, source)},
            secret_files=secrets,
            writable=TEMPORARY,
            mounted=Mounted(
                (
                    {
                        "name": self.volume,
                        "empty_dir": {"size_limit": f"{_COPIES * args['size_mib']}Mi"},
                    },
                ),
                ({"name": self.volume, "mount_path": _FOLDER},),
            ),
            reloading=(self.volume,),
            metrics={
                "name": "config-sync",
                "port": args["port"],
                "clients": args["metrics_clients"],
            },
            # The application starts after it, so that it never sees an empty folder.
            startup={"path": "/started", "failure_threshold": 300},
            readiness={"path": "/health" if args["unready_when_stale"] else "/started"},
            liveness={"path": "/live"},
            reaches=reaches,
            share_process_namespace="signal" in args.get("on_change", {}),
            # RBAC rules cannot select by label.
            rules=(Rule(("configmaps",), ("get", "list", "watch")),)
            if "config_maps" in args
            else (),
        )
        self._run(program, _ALERTS, pulumi.ResourceOptions(parent=self))
        self.register_outputs({"volume": self.volume})

    def mount(self, path: str) -> VolumeMountArgsDict:
        """Mount of the folder, for the application's ``volume_mounts``.

        :param path: absolute; files are ``path/<name>``
        """
        path = resolved_value(Place(self._where, "path"), read(MountPath), path)
        return {"name": self.volume, "mount_path": path, "read_only": True}


def _checked(where: str, name: str, args: ConfigSyncArgs) -> ConfigSyncArgs:
    check_name(where, name, reserve=RESERVE, service=True)
    args = resolved(where, ConfigSyncArgs, args)
    given = [source for source in SOURCES if source in args]
    if len(given) != 1:
        raise InputError(
            where, ", ".join(SOURCES), given, "must be exactly one of them, the source"
        )
    args.setdefault("mode", "watch" if "config_maps" in args else "interval")
    if args["mode"] == "watch" and "config_maps" not in args:
        raise InputError(where, "mode", "watch", "must be interval: only ConfigMaps can be watched")
    interval = args["interval_seconds"]
    args.setdefault("stale_after_seconds", 3 * interval + 10)
    if args["stale_after_seconds"] <= interval:
        raise InputError(
            where,
            "stale_after_seconds",
            args["stale_after_seconds"],
            f"must be above interval_seconds ({interval}), or health fails between two polls",
        )
    if "on_change" in args:
        check_change(where, args["on_change"])
    if "authorization" in (http := args.get("http", {})) and http["server"].app_protocol != "https":
        raise InputError(
            where,
            "http.server",
            http["server"],
            "must speak https: authorization is not sent in plain text",
        )
    return args


def _source(
    args: ConfigSyncArgs,
) -> tuple[dict[str, Any], dict[str, pulumi.Input[str]], tuple[Reach, ...]]:
    """The program's source, its secret files, and the servers that it connects to."""
    if "config_maps" in args:
        return {"kind": "config_map", "labels": args["config_maps"]}, {}, ()
    kind = "http" if "http" in args else "git"
    source: dict[str, Any] = {"kind": kind, **args[kind]}  # type: ignore[literal-required]
    server: Reach = source.pop("server")
    source["url"] = server.url
    files: dict[str, pulumi.Input[str]] = {}
    for what, file, text in (
        ("authorization", "authorization", source.pop("authorization", None)),
        ("authority", "authority.crt", server.authority),
    ):
        if text is not None:
            source[f"{what}_file"] = f"{_SECRET}/{file}"
            files[f"{_SECRET}/{file}"] = text
    return source, files, (server,)


def _json(args: ConfigSyncArgs, source: Mapping[str, Any]) -> pulumi.Output[str]:
    """The program's configuration file."""
    content = {
        "folder": _FOLDER,
        "source": source,
        "watch": args["mode"] == "watch",
        "interval_seconds": args["interval_seconds"],
        "stale_after_seconds": args["stale_after_seconds"],
        "check": args.get("check", []),
        "tell": args.get("on_change"),
        "may_be_empty": args["may_be_empty"],
        "most_bytes": args["size_mib"] * 2**20,
        "port": args["port"],
    }
    return pulumi.Output.json_dumps(content, indent=1).apply(lambda text: f"{text}\n")
