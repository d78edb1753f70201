"""Make the virtual environment of the project if it is missing, then run the driver in it.

Only the standard library, and a syntax that an old Python still reads, so that it can say it is
too old.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PINS = ("requirements.txt", "requirements-dev.txt")
COMPLETE = ".complete"


def say(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def newer_python() -> "str | None":
    """The path of a Python on PATH that is new enough, or None."""
    for minor in range(OLDEST[1] + 8, OLDEST[1] - 1, -1):
        found = shutil.which("python3.%d" % minor)
        if found:
            probe = "import sys, venv, ensurepip; sys.exit(sys.version_info < %r)" % (OLDEST,)
            if subprocess.call([found, "-c", probe], stderr=subprocess.DEVNULL) == 0:
                return found
    return None


def venv_folder() -> str:
    """Where the environment for these pins and this Python lies."""
    digest = hashlib.sha256(repr((sys.version, sys.base_prefix)).encode())
    for name in PINS:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "dds", "venv", digest.hexdigest()[:16])


def run(command: "list[str]", log: str) -> None:
    """Run a command with its output in `log`; end the program with its last lines if it fails."""
    with open(log, "ab") as out:
        code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    if code:
        with open(log, errors="replace") as file:
            say("".join(file.readlines()[-15:]))
        say("environment: %s failed; the whole output is in %s" % (" ".join(command[:4]), log))
        if "venv" in command:
            say("environment: on Debian and Ubuntu, apt-get install python3-venv")
        sys.exit(1)


def make(folder: str) -> None:
    """Make the environment in place.

    A virtual environment holds its own path, so it cannot be made elsewhere and renamed; the mark
    at the end tells a complete one.
    """
    begun = time.time()
    say("environment: making a virtual environment of pinned packages (1 to 3 minutes)")
    shutil.rmtree(folder, ignore_errors=True)
    python = os.path.join(folder, "bin", "python")
    log = folder + ".log"
    run([sys.executable, "-m", "venv", folder], log)
    # Every package is pinned, so there is nothing to resolve.
    install = [python, "-m", "pip", "install", "--no-deps", "--no-compile", "--no-input"]
    for name in PINS:
        install += ["-r", os.path.join(ROOT, name)]
    run(install, log)
    run([python, "-m", "pip", "check"], log)
    say("environment: compiling (%.0f s so far)" % (time.time() - begun))
    # A few packages carry test files that are not meant to compile: the exit code says nothing.
    subprocess.call(
        [python, "-m", "compileall", "-q", "-j", "0", os.path.join(folder, "lib")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with open(os.path.join(folder, COMPLETE), "w"):
        pass
    say("environment: ready after %.0f s" % (time.time() - begun))


def link(folder: str) -> None:
    """Let .venv in the checkout point to the environment."""
    name = os.path.join(ROOT, ".venv")
    if os.path.islink(name):
        if os.readlink(name) == folder:
            return
    elif os.path.exists(name):
        say("environment: %s is a folder of your own; move it away, it becomes a link" % name)
        sys.exit(1)
    part = "%s.%d" % (name, os.getpid())
    os.symlink(folder, part)
    os.replace(part, name)


def main() -> None:
    """Run `python -m toolchain` with the arguments of this program."""
    if sys.version_info < OLDEST:
        found = newer_python() if sys.version_info >= (3, 3) else None
        if not found:
            here = (sys.executable, sys.version.split()[0])
            say(
                "This project needs Python %d.%d or newer with venv; %s is %s. Install it, or name "
                "it: make PYTHON=/path/to/python3" % (OLDEST + here)
            )
            sys.exit(1)
        os.execv(found, [found] + sys.argv)
    folder = venv_folder()
    complete = os.path.join(folder, COMPLETE)
    if not os.path.exists(complete):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with open(folder + ".lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("environment: another run is making it; waiting")
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(complete):
                make(folder)
    link(folder)
    os.chdir(ROOT)
    python = os.path.join(folder, "bin", "python")
    os.execv(python, [python, "-m", "toolchain"] + sys.argv[1:])


if __name__ == "__main__":
    main()
