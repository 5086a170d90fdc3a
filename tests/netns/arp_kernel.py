"""The kernel's neighbour table and an ArpTable agree after a dialogue in both roles: each asks, and each answers."""
import os
import re
import select
import socket
import subprocess
import sys
import time

from namespaces import veth_pair, wait_until
from skip import require_root

OURS, KERNELS, MAC = "10.9.0.2", "10.9.0.1", "02:00:00:00:00:01"


def inside(device):
    """In the namespace: carries frames between the device and an ArpTable, asks for the kernel's address when told to, and
    says at each line of standard input what the table knows of it."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    link.bind((device, 0x0806))
    table = subprocess.Popen([os.path.join(os.environ["EFIO_BIN_DIR"], "arp_dialogue")], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(*words):
        table.stdin.write(" ".join(str(word) for word in words) + "\n")
        table.stdin.flush()
        return table.stdout.readline().rstrip("\n")

    def now():
        return int(time.monotonic() * 1000)

    def send(answer):
        for frame in answer.split(" ")[1:]:
            link.send(bytes.fromhex(frame))

    ask("local", 0, f"{OURS}/24", MAC, "now", now())
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([link, sys.stdin], [], [], 0.05)
        if link in ready:
            frame, whence = link.recvfrom(2048)
            if whence[2] != socket.PACKET_OUTGOING:
                send(ask("frame", now(), frame.hex()))
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            if line.strip() == "resolve":
                ask("resolve", 0, KERNELS, now())
            print(ask("state", 0, KERNELS, now()), flush=True)
        send(ask("poll", now()))


def say(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().split()


if len(sys.argv) > 1:
    inside(sys.argv[1])
    sys.exit()

require_root()
for first in ("we", "the kernel"):
    with veth_pair() as (kernel, ours):
        kernel.run("ip", "addr", "add", f"{KERNELS}/24", "dev", kernel.device, check=True)
        kernel_mac = kernel.run("cat", f"/sys/class/net/{kernel.device}/address").stdout.strip()
        process = ours.start(sys.executable, __file__, ours.device, stdin=subprocess.PIPE)
        assert process.stdout.readline() == "ready\n"

        def kernel_knows():
            return re.search(rf"lladdr {MAC} (REACHABLE|DELAY|STALE|PROBE)",
                             kernel.run("ip", "neigh", "show", OURS, "dev", kernel.device).stdout)

        def kernel_asks():
            # Nobody answers the ping itself: what counts is the question before it.
            kernel.run("ping", "-c", "1", "-W", "1", OURS)
            wait_until(kernel_knows, "the kernel did not resolve us", 5)
            assert "REACHABLE" in kernel_knows().group(0) or first == "we", kernel_knows().group(0)

        def we_ask():
            say(process, "resolve")
            wait_until(lambda: say(process, "state") == ["reachable", kernel_mac], "we did not resolve the kernel", 5)

        for step in ((we_ask, kernel_asks) if first == "we" else (kernel_asks, we_ask)):
            step()
        state, mac = say(process, "state")
        assert mac == kernel_mac and state in ("reachable", "probe"), (state, mac)
        assert kernel_knows(), "the kernel's table"
        print(f"{first} asked first: both tables agree")
