"""For test scripts: leave as skipped (exit 77), or as failed where privilege is promised.

    from skip import require, require_root, require_program
    require_root()
    require_program("tshark")
"""
import os
import shutil
import sys


def require(condition, reason):
    if condition:
        return
    if os.environ.get("CI") == "true" or os.environ.get("EFIO_REQUIRE_PRIVILEGE") == "1":
        print(f"cannot run, though privilege is promised: {reason}", file=sys.stderr)
        sys.exit(1)
    print(f"skipped: {reason}", file=sys.stderr)
    sys.exit(77)


def require_root():
    require(os.geteuid() == 0, "needs root")


def require_program(name):
    require(shutil.which(name), f"needs {name}")
