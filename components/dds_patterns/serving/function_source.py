"""A function's code, and how it gets into the pod: mounted, or built into an image."""

import ast
import fnmatch
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pulumi

from dds_patterns.arguments import InputError, is_deferred, matching, nearest
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.errors import MissingArgumentError

REQUIREMENTS = "requirements.txt"
_MAIN = "main.py"
# A ConfigMap holds 1 MiB, including names and metadata.
_MOST_MOUNTED = 900_000
_MOUNTABLE = re.compile(r"[A-Za-z0-9._-]+")
_IGNORE = ".dockerignore"

SECRETS = (
    ".env", ".env.*", "*.env", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore",
    "*.kdbx", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".ssh", ".gnupg", ".netrc",
    "_netrc", ".npmrc", ".yarnrc*", ".pypirc", ".aws", ".azure", ".boto", ".config", ".docker",
    ".dockercfg", ".kube", "kubeconfig", ".pgpass", ".my.cnf", ".htpasswd", ".git-credentials",
    ".vault-token", ".terraform", "*.tfstate", "*.tfstate.*", "*.tfvars", ".pulumi",
    "credentials.json", "service-account*.json", "secrets.json", "secrets.toml", "secrets.yaml",
    "secrets.yml", ".git", ".hg", ".svn", ".venv",
)  # fmt: skip
"""Names of files that often hold secrets. They are left out of a function, with a warning."""
RUBBISH = (
    "__pycache__", "*.pyc", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".DS_Store", _IGNORE,
)  # fmt: skip
"""Names of caches and the like. They are left out without a warning."""

Code = Annotated[
    str,
    Constraint(
        f"the text of a Python module, of at most {_MOST_MOUNTED} bytes",
        lambda text: bool(text.strip()) and len(text.encode(errors="replace")) <= _MOST_MOUNTED,
        ("", " \n", "#" * (_MOST_MOUNTED + 1)),
    ),
]
"""The text of a Python module."""
FunctionName = Annotated[
    str,
    Constraint(
        "the name of a function, such as handler", str.isidentifier, ("", "a b", "a.b", "1a")
    ),
]
"""A name in a Python module."""
MainFile = Annotated[
    str,
    matching(
        r"[A-Za-z0-9_][-A-Za-z0-9_.]*\.py",
        "the name of a Python file, such as main.py",
        most=253,
        odd=("main", ".py", "a/b.py", "../a.py", "a b.py", "a.py\n"),
    ),
]
"""A Python file of a folder."""
_PIN = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+_-]+"
    r"(\s*;[^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+"
)
_OPTIONS = ("--only-binary", "--no-binary")


@dataclass(frozen=True)
class Source:
    """Checked code."""

    main: str
    """The file that defines the function, relative to the folder."""
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Files to mount, name to content; empty if an image is built."""
    folder: Path | None = None
    """The folder that an image is built from."""
    requirements: bool = False
    """Whether the folder has dependencies to install."""
    left_out: tuple[str, ...] = ()
    """Files of the folder that may be secret and are left out."""


def source_of(where: str, args: Mapping[str, Any], functions: Mapping[str, str]) -> Source:
    """Read and check the code.

    A text, a file and a folder of text files are mounted: a change rolls out in seconds and needs no
    registry. A folder with ``requirements.txt``, subfolders, files other than text, or more than a
    ConfigMap holds, is built into an image. Neither contains what SECRETS and RUBBISH name.

    :param args: RunArgs and ``code``
    :param functions: names of functions that the code must define, by the argument that names them
    :raises InputError: neither or both of ``code`` and ``source``; a missing file; a syntax error;
        a missing function; a requirement without version and hash
    """
    code, source, file = (args.get(argument) for argument in ("code", "source", "file"))
    if code is not None and source is not None:
        raise InputError(where, "source", source, "must be left out where there is code")
    if code is not None:
        if file is not None:
            raise InputError(where, "file", file, "is for a folder; code has no file")
        if not is_deferred(code):
            _check_code(where, "code", code, functions)
        return Source(_MAIN, {_MAIN: code})
    if source is None:
        raise MissingArgumentError(
            where, "code", None, "give the text as code, or a file or folder as source"
        )
    path = Path(source)
    # Path's own methods raise an error for a name that is too long.
    if os.path.isdir(path):  # noqa: PTH112
        return _folder(where, path, file or _MAIN, functions)
    if not os.path.isfile(path):  # noqa: PTH113
        raise InputError(where, "source", source, f"does not exist, seen from {Path.cwd()}")
    if file is not None:
        raise InputError(where, "file", file, "is for a folder; source is a file")
    text = _text(path)
    if path.suffix != ".py" or text is None or not _MOUNTABLE.fullmatch(path.name):
        raise InputError(
            where,
            "source",
            source,
            "must be a Python file with a name such as main.py, or a folder",
        )
    if path.stat().st_size > _MOST_MOUNTED:
        raise InputError(where, "source", source, f"must have at most {_MOST_MOUNTED} bytes")
    _check_code(where, "source", text, functions)
    return Source(path.name, {path.name: text})


def _folder(where: str, path: Path, main: str, functions: Mapping[str, str]) -> Source:
    entries = [p for p in sorted(path.iterdir()) if not _named(p.name, (*SECRETS, *RUBBISH))]
    there = [p.name for p in entries if p.suffix == ".py"]
    if main not in there:
        raise InputError(where, "file", main, nearest(main, there))
    text = _text(path / main)
    if text is None:
        raise InputError(where, "file", main, "must be text in UTF-8")
    _check_code(where, f"source: {main}", text, functions)
    left_out = _left_out(path)
    requirements = path / REQUIREMENTS
    if not requirements.is_file():
        texts = {p.name: _text(p) for p in entries if p.is_file() and _MOUNTABLE.fullmatch(p.name)}
        small = sum(p.stat().st_size for p in entries if p.is_file()) <= _MOST_MOUNTED
        if small and len(texts) == len(entries) and None not in texts.values():
            mounted = {name: text for name, text in texts.items() if text is not None}
            return Source(main, mounted, left_out=left_out)
    if (path / _IGNORE).is_file():
        raise InputError(
            where,
            f"source: {_IGNORE}",
            str(path / _IGNORE),
            "must not exist: an image leaves out the same files as every function; move other files "
            "to another folder",
        )
    if requirements.is_file():
        _check_requirements(where, _text(requirements))
    return Source(main, folder=path, requirements=requirements.is_file(), left_out=left_out)


def _named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _left_out(folder: Path) -> tuple[str, ...]:
    """Paths of files and folders that may be secret; a folder stands for its content."""
    found: list[str] = []
    for root, folders, files in os.walk(folder):
        found += [
            str((Path(root) / name).relative_to(folder))
            for name in (*folders, *files)
            if _named(name, SECRETS)
        ]
        folders[:] = [name for name in folders if not _named(name, (*SECRETS, *RUBBISH))]
    return tuple(sorted(found))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def _check_code(where: str, argument: str, text: str, functions: Mapping[str, str]) -> None:
    try:
        module = ast.parse(text)
    except SyntaxError as error:
        raise InputError(
            where, argument, f"line {error.lineno}: {(error.text or '').strip()}", error.msg
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(where, argument, f"{text[:60]}...", f"is not Python: {error}") from None
    if any(isinstance(n, ast.ImportFrom) and any(a.name == "*" for a in n.names)
           for n in module.body):  # fmt: skip
        return
    names = _defined(module)
    for naming, name in functions.items():
        if name not in names:
            raise InputError(where, naming, name, nearest(name, [*names]))
        if isinstance(names[name], ast.AsyncFunctionDef):
            raise InputError(where, naming, name, "must be a plain function, without async")


def _defined(module: ast.Module) -> dict[str, ast.stmt]:
    """Names that the module defines at its top level, also in ``if`` and ``try``."""
    names: dict[str, ast.stmt] = {}
    open_ = [*module.body]
    while open_:
        node = open_.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(a.asname or a.name).partition(".")[0]: node for a in node.names}
        elif isinstance(node, ast.Assign):
            names |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
        else:
            open_ += [c for c in ast.walk(node) if isinstance(c, ast.stmt) and c is not node]
    return names


def _check_requirements(where: str, text: str | None) -> None:
    if text is None:
        raise InputError(where, "source", REQUIREMENTS, "must be text in UTF-8")
    joined = re.sub(r"\\\s*\n", " ", text)
    for line in joined.splitlines():
        requirement = re.sub(r"(^|\s)#.*", "", line).strip()
        if not requirement or requirement.split()[0].split("=")[0] in _OPTIONS:
            continue
        if not _PIN.fullmatch(requirement):
            raise InputError(
                where,
                f"source: {REQUIREMENTS}",
                requirement,
                "must have a version and a hash, name==1.2.3 --hash=sha256:..., also if it is a "
                "transitive dependency",
            )
