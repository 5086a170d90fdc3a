"""Network namespaces for test scripts: made under unique names, removed whatever happens.

    with veth_pair() as (a, b):            # two namespaces, each with one end of a veth pair; up, and silent
        a.run("ip", "-s", "link")          # a command in the namespace; a.device is its end
"""
import contextlib
import os
import signal
import subprocess
import time

made = 0


class Namespace:
    def __init__(self, name, device):
        self.name = name
        self.device = device
        self.started = []

    def command(self, *words):
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def run(self, *words, **options):
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=120, **options)

    def start(self, *words, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        self.started.append(subprocess.Popen(self.command(*words), **options))
        return self.started[-1]

    def count(self, direction):
        """Frames by the kernel's own count; direction is rx or tx."""
        return int(self.run("cat", f"/sys/class/net/{self.device}/statistics/{direction}_packets").stdout)


def wait_until(condition, complaint, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(complaint)
        time.sleep(0.02)


def interrupt(process):
    """Ctrl-C for what a namespace runs (`ip netns exec` becomes the program); returns what it said."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=30)


@contextlib.contextmanager
def veth_pair():
    global made
    made += 1
    names = [f"efio_{end}_{os.getpid()}_{made}" for end in "ab"]
    ends = [Namespace(names[0], "veth0"), Namespace(names[1], "veth1")]

    def ip(*words):
        subprocess.run(["ip", *words], check=True, timeout=30)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "name", "veth1", "netns", names[1])
        for end in ends:
            # Without IPv6 the kernel sends nothing of its own over the pair.
            end.run("sysctl", "-q", f"net.ipv6.conf.{end.device}.disable_ipv6=1", check=True)
            ip("-n", end.name, "link", "set", end.device, "up")
        yield ends
    finally:
        for process in [process for end in ends for process in end.started if process.poll() is None]:
            process.kill()
            process.wait()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, timeout=30)
