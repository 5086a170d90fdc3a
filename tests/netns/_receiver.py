"""The receiver bin/xdp_take, run in a namespace."""
import os
import subprocess

binary = os.path.join(os.environ["EFIO_BIN_DIR"], "xdp_take")


class Refused(Exception):
    pass


class Receiver:
    """Raises Refused, with the error, if the port does not open. `before` are words of a command that runs it."""

    def __init__(self, namespace, uri, before=(), program=binary):
        self.process = namespace.start(*before, program, uri, stdin=subprocess.PIPE, stderr=None)
        said = self.process.stdout.readline().rstrip("\n")
        if not said.startswith("ready "):
            self.process.wait(timeout=30)
            raise Refused(said)
        self.mode = said[len("ready "):]

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def take(self, rules):
        return self.ask(f"take {rules}")

    def frames(self, wanted, seconds=10):
        """What came: waits for so many, or that time. Raises Refused, with the error, once the queue has failed."""
        found, line = [], self.ask(f"frames {wanted} {int(seconds * 1000)}")
        while line != "end":
            if " " in line:
                raise Refused(line)
            found.append(bytes.fromhex(line))
            line = self.process.stdout.readline().rstrip("\n")
        return found

    def close(self):
        answer = self.ask("close")
        assert answer == "closed" and self.process.wait(timeout=30) == 0, answer
