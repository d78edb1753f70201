"""Where a function's code is, and how it gets to the pod: mounted, or built into an image."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pulumi

from components.arguments.errors import InputError, MissingArgumentError
from components.values import checks

REQUIREMENTS = "requirements.txt"
_MAIN = "main.py"
# A ConfigMap holds 1 MiB, of which names and metadata take their part.
_MOST_MOUNTED = 900_000
_PIN = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+_-]+"
    r"(\s*;[^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+"
)
_OPTIONS = ("--only-binary", "--no-binary")


@dataclass(frozen=True)
class Source:
    """Checked code."""

    main: str
    """The file that has the function, relative to the folder."""
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """Files to mount, name to content; empty where an image is built."""
    folder: Path | None = None
    """The folder that an image is built from."""
    requirements: bool = False
    """Whether the folder has dependencies to install."""


def source_of(
    where: str,
    *,
    code: pulumi.Input[str] | None,
    source: str | None,
    file: str | None,
    functions: Mapping[str, str],
) -> Source:
    """Check where the code is.

    A text, a file and a folder of text files are mounted: a change rolls in seconds and needs no
    registry. A folder with ``requirements.txt``, folders below it, other files than text, or more
    than a ConfigMap holds, is built into an image.

    :param functions: names of functions that the code must have, by the argument that names them
    :raises InputError: neither or both of ``code`` and ``source``; nothing there; a syntax error;
        a function that is not there; a requirement without version and hash
    """
    if code is not None and source is not None:
        raise InputError(where, "source", source, "must be left out where there is code")
    if code is not None:
        if file is not None:
            raise InputError(where, "file", file, "is for a folder; code has no file")
        if not checks.is_deferred(code):
            if not isinstance(code, str) or not code.strip():
                raise InputError(where, "code", code, "must be the text of a Python module")
            _check_code(where, "code", code, functions)
        return Source(_MAIN, {_MAIN: checks.public(where, "code", code)})
    if source is None:
        raise MissingArgumentError(
            where, "code", "give the text as code, or a file or folder as source"
        )
    path = Path(checks.plain(where, "source", source, "it decides whether an image is built"))
    if path.is_file():
        if file is not None:
            raise InputError(where, "file", file, "is for a folder; source is a file")
        text = _text(path)
        if path.suffix != ".py" or text is None:
            raise InputError(where, "source", source, "must be a Python file or a folder")
        _check_code(where, "source", text, functions)
        return Source(path.name, {path.name: text})
    if not path.is_dir():
        raise InputError(where, "source", source, f"is not there, seen from {Path.cwd()}")
    return _folder(where, path, file or _MAIN, functions)


def _folder(where: str, path: Path, main: str, functions: Mapping[str, str]) -> Source:
    there = sorted(p.name for p in path.glob("*.py"))
    if main not in there:
        raise InputError(where, "file", main, checks.nearest(main, there))
    text = _text(path / main)
    if text is None:
        raise InputError(where, "file", main, "must be text in UTF-8")
    _check_code(where, f"source: {main}", text, functions)
    requirements = path / REQUIREMENTS
    if requirements.is_file():
        _check_requirements(where, requirements.read_text())
        return Source(main, folder=path, requirements=True)
    entries = [p for p in sorted(path.iterdir()) if p.name != "__pycache__"]
    texts = {p.name: _text(p) for p in entries if p.is_file()}
    small = sum(p.stat().st_size for p in entries if p.is_file()) <= _MOST_MOUNTED
    if small and len(texts) == len(entries) and None not in texts.values():
        return Source(main, {name: text for name, text in texts.items() if text is not None})
    return Source(main, folder=path)


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
    if any(isinstance(n, ast.ImportFrom) and any(a.name == "*" for a in n.names)
           for n in module.body):  # fmt: skip
        return
    names = _defined(module)
    for naming, name in functions.items():
        if name not in names:
            raise InputError(where, naming, name, checks.nearest(name, [*names]))
        if isinstance(names[name], ast.AsyncFunctionDef):
            raise InputError(where, naming, name, "must be a plain function, without async")


def _defined(module: ast.Module) -> dict[str, ast.stmt]:
    """Names that the module has at its top level, also below ``if`` and ``try``."""
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


def _check_requirements(where: str, text: str) -> None:
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
                "must name a version and a hash, name==1.2.3 --hash=sha256:..., also for what "
                "others bring along",
            )
