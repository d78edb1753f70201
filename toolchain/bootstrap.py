"""Create the project's virtual environment if it is missing, then run the driver in it.

It uses only the standard library, and syntax that an old Python can parse, so that it can report
that Python is too old.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PINS = ("requirements.txt", "requirements-dev.txt")
COMPLETE = ".complete"
# pip's settings and uv's variables for them: uv does not read pip's files.
AS_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}


def say(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def newer_python() -> "str | None":
    """The path of a recent enough Python on PATH, or None."""
    for minor in range(OLDEST[1] + 8, OLDEST[1] - 1, -1):
        found = shutil.which("python3.%d" % minor)
        if found:
            probe = "import sys, venv, ensurepip; sys.exit(sys.version_info < %r)" % (OLDEST,)
            if subprocess.call([found, "-c", probe], stderr=subprocess.DEVNULL) == 0:
                return found
    return None


def cache(*parts: str) -> str:
    """A path in the cache that all checkouts of a user share."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "dds", *parts)


def digest() -> str:
    """A hash of everything in the environment: Python, the pins and the project's own package."""
    found = hashlib.sha256(repr((sys.version, sys.base_prefix)).encode())
    for name in (*PINS, "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            found.update(file.read())
    return found.hexdigest()


def run(command: "list[str]", log: str, environment: "dict[str, str] | None" = None) -> None:
    """Run a command with its output in `log`; if it fails, print the last lines and exit."""
    with open(log, "ab") as out:
        code = subprocess.call(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
        )
    if code:
        with open(log, errors="replace") as file:
            say("".join(file.readlines()[-15:]))
        say("environment: %s failed; the complete output is in %s" % (" ".join(command[:4]), log))
        if "venv" in command:
            say("environment: on Debian and Ubuntu, apt-get install python3-venv")
        sys.exit(1)


def uv(log: str) -> str:
    """The path of the pinned uv, which is installed with pip if it is missing."""
    with open(os.path.join(ROOT, "requirements-dev.txt")) as file:
        (pin,) = [line.strip() for line in file if line.startswith("uv==")]
    folder = cache("uv", pin.partition("==")[2])
    program = os.path.join(folder, "bin", "uv")
    if not os.path.exists(program):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with locked(folder + ".lock"):
            if not os.path.exists(program):
                run([sys.executable, "-m", "venv", "--clear", folder], log)
                run([os.path.join(folder, "bin", "pip"), "install", "--no-input", pin], log)
    return program


def as_pip(python: str) -> "dict[str, str]":
    """This process's environment, with pip's settings in uv's variables."""
    environment = dict(os.environ)
    environment.setdefault("UV_CACHE_DIR", cache("uv", "packages"))
    done = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        # Such as global.index-url or :env:.index-url, with the value in quotes.
        variable = AS_PIP.get(key.rpartition(".")[2])
        if variable:
            environment.setdefault(variable, value.strip("'\""))
    return environment


def make(folder: str, mark: str) -> None:
    """Create or update the environment. It is complete when it has the mark."""
    begun = time.time()
    say("environment: installing the pinned packages (up to a minute the first time)")
    log = os.path.join(ROOT, ".dds", "environment.log")
    program = uv(log)
    environment = as_pip(os.path.join(os.path.dirname(program), "python"))
    complete = os.path.join(folder, COMPLETE)
    if os.path.exists(complete):
        os.remove(complete)
    python = os.path.join(folder, "bin", "python")
    run([program, "venv", "--allow-existing", "--python", sys.executable, folder], log, environment)
    # Every package is pinned, so no resolution is needed.
    install = [program, "pip", "sync", "--python", python, "--compile-bytecode"]
    run(install + [os.path.join(ROOT, name) for name in PINS], log, environment)
    run([program, "pip", "check", "--python", python], log, environment)
    with open(complete, "w") as file:
        file.write(mark)
    say("environment: ready after %.0f s" % (time.time() - begun))


@contextlib.contextmanager
def locked(path: str) -> "Iterator[None]":
    """Hold a lock that is shared between processes."""
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("environment: waiting for another run that creates it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_complete(folder: str, mark: str) -> bool:
    """Whether the environment has all pinned packages."""
    try:
        with open(os.path.join(folder, COMPLETE)) as file:
            return file.read() == mark
    except OSError:
        return False


def main() -> None:
    """Run `python -m toolchain` with the arguments of this program."""
    if sys.version_info < OLDEST:
        found = newer_python() if sys.version_info >= (3, 3) else None
        if not found:
            here = (sys.executable, sys.version.split()[0])
            say(
                "This project needs Python %d.%d or newer with venv; %s is %s. Install it, or pass "
                "its path: make PYTHON=/path/to/python3" % (OLDEST + here)
            )
            sys.exit(1)
        os.execv(found, [found] + sys.argv)
    folder = os.path.join(ROOT, ".venv")
    mark = digest()
    if not is_complete(folder, mark):
        os.makedirs(os.path.join(ROOT, ".dds"), mode=0o700, exist_ok=True)
        with locked(os.path.join(ROOT, ".dds", "environment.lock")):
            if os.path.islink(folder):
                # From an earlier version, whose checkouts shared environments.
                os.remove(folder)
            if not is_complete(folder, mark):
                make(folder, mark)
    os.chdir(ROOT)
    python = os.path.join(folder, "bin", "python")
    os.execv(python, [python, "-m", "toolchain"] + sys.argv[1:])


if __name__ == "__main__":
    main()
