"""The executable of every plugin: `python launch.py <module> <the engine's arguments>`.

Adds the checkout to the module path, exits when the engine has exited (so that nothing works on the
cluster after a killed engine), and runs the module.
"""

import os
import runpy
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PARENT_CHECK = 0.5


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    os._exit(1)


def main() -> None:
    """Run the module in the first argument."""
    module = sys.argv[1]
    # Dynamic providers are unpickled here, with imports from the program's folder.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]
    if module == "pulumi.dynamic":
        sys.path.insert(0, str(Path.cwd()))
    sys.path.append(str(ROOT))
    del sys.argv[1]
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
