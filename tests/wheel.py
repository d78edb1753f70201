"""The wheel as another program has it: in an environment with nothing but what it requires."""

import subprocess
import sys
from pathlib import Path

from toolchain import bootstrap

ROOT = Path(__file__).parents[1]


def built(folder: Path) -> Path:
    """Build the wheel with the pinned backend of this environment, so that no index is needed."""
    _uv(folder, "build", "--wheel", "--no-build-isolation", "--python", sys.executable,
        "--out-dir", str(folder), str(ROOT))  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed(wheel: Path, environment: Path) -> Path:
    """Install it into a new environment, with the tested versions of what it requires.

    Returns the environment's Python.
    """
    python = environment / "bin" / "python"
    pins = (ROOT / "requirements.txt").read_text().splitlines()
    constraints = wheel.with_name("constraints.txt")
    constraints.write_text("\n".join(line for line in pins if "==" in line))
    _uv(wheel.parent, "venv", "--python", sys.executable, str(environment))
    _uv(wheel.parent, "pip", "install", "--python", str(python),
        "--constraints", str(constraints), str(wheel))  # fmt: skip
    return python


def _uv(folder: Path, *arguments: str) -> None:
    program = Path(bootstrap.uv(str(folder / "uv.log")))
    environment = bootstrap.as_pip(str(program.with_name("python")))
    done = subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
