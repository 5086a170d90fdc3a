"""An ArpTable or NdpTable in another process, for scapy to speak with; see neighbour_dialogue.cpp."""
import os
import subprocess
import sys
import warnings

from skip import require

try:
    warnings.simplefilter("ignore")
    from scapy.all import Ether
except ImportError as error:
    require(False, f"needs scapy: {error}")

failures = checks = 0


def same(what, got, wanted):
    global failures, checks
    checks += 1
    if got != wanted:
        failures += 1
        print(f"{what}: got {got}, wanted {wanted}")


def finish(*dialogues):
    for dialogue in dialogues:
        dialogue()
    print(f"{checks} checks, {failures} failures")
    sys.exit(1 if failures else 0)


def mac(number):
    return f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"


class Table:
    """With the address `us` on `us_mac`; how: "now", or "probe" for a duplicate first."""

    def __init__(self, protocol, us, us_mac, how, prefix, capacity=1024):
        program = os.path.join(os.environ["EFIO_BIN_DIR"], "neighbour_dialogue")
        self.process = subprocess.Popen([program, protocol, str(capacity)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.now = 1_000_000
        same("local", self.ask("local", 0, f"{us}/{prefix}", us_mac, how, self.now), "added")
        if how == "now":
            self.announced = self.run(10_000, 100)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def frame(self, packet):
        """Sends a frame in; the event and the frames that came back."""
        event, *frames = self.ask("frame", self.now, bytes(packet).hex()).split(" ")
        return event, [Ether(bytes.fromhex(one)) for one in frames]

    def poll(self, step=0):
        self.now += step
        return [Ether(bytes.fromhex(one)) for one in self.ask("poll", self.now).split(" ")[1:]]

    def run(self, span, step=50):
        """What is sent meanwhile: (time, frame)."""
        sent = []
        for _ in range(span // step):
            sent += [(self.now + step, frame) for frame in self.poll(step)]
        return sent

    def state(self, address, vlan=0):
        return self.ask("state", vlan, address, self.now).split(" ")

    def resolve(self, address, vlan=0):
        return self.ask("resolve", vlan, address, self.now)

    def close(self):
        self.process.stdin.close()
        same("exit code", self.process.wait(), 0)
