"""Every kind of steering rule against frames that scapy makes: the XDP program in the kernel must say of each frame what
the rule's meaning, written down here once more over scapy's view of the frame, says."""
import os
import subprocess
import sys

from skip import require_root

require_root()

from scapy.all import Ether

from _steering import FRAMES, RULES

# Cut and damaged frames: only what is really there counts. (frame, what the program can know about it)
DAMAGED = {
    "no header": bytes(FRAMES["udp"])[:14],
    "half an IP header": bytes(FRAMES["udp"])[:24],
    "no ports": bytes(FRAMES["udp"])[:34],
    "half the ports": bytes(FRAMES["udp"])[:37],
    "header length 4": bytes(FRAMES["udp"])[:14] + b"\x44" + bytes(FRAMES["udp"])[15:],
    "version 5": bytes(FRAMES["udp"])[:14] + b"\x55" + bytes(FRAMES["udp"])[15:],
    "no tag": bytes(FRAMES["vlan 7"])[:16],
}

# What of the damaged frames a rule takes, by name.
OF_DAMAGED = {
    "all": set(DAMAGED), "none": set(), "ip": {"no ports", "half the ports"}, "udp": {"no ports", "half the ports"},
    "udp:0-65535": set(), "port:0-65535": set(), "frag": set(), "arp": set(),
    "ether:0x0800": set(DAMAGED) - {"no tag"}, "vlan": set(), "untagged": set(DAMAGED) - {"no tag"},
}

REFUSED = ["", "tpc:80", "udp:", "udp:5000-4000", "udp:70000", "udp:4000-", "udp:-5", "udp:4000,", "ip:10.0.0.1/8",
           "ip:10.0.0.0/33", "ip:2001:db8::1", "ip6:10.0.0.1", "ip:host", "src", "src:", "udp+tcp", "udp:1+udp:2",
           "arp+udp", "ip+ip6", "arp:2001:db8::1", "arp+src:2001:db8::1", "ip:10.0.0.1+src:2001:db8::1", "vlan+untagged",
           "vlan:4096", "frag+udp:53", "icmp+ip6", "icmp:8", "ether:0x5ff", "ether:0x10000", "ether:arp", "mac:1:2:3:4:5:6",
           "mac:02-00-00-00-00-01", "proto:256", "proto:x", "!udp", "!", "udp,!", "all+udp", "none,udp", "udp ", "UDP",
           "ether:0x0806+port:1", "+", "udp+", "udp:4000-5000-6000", ",".join(f"udp:{n}" for n in range(65))]


class Steer:
    def __init__(self, *options):
        self.process = subprocess.Popen([os.path.join(os.environ["EFIO_BIN_DIR"], "xdp_steer"), *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"xdp_steer ended at: {line}")
        return answer.rstrip("\n")

    def close(self):
        self.process.stdin.close()
        return self.process.wait(timeout=30)


failures = []


def check(condition, text):
    if not condition:
        failures.append(text)


# Both programs; a test run may not have less than an Ethernet header.
verdicts = 0
for options in ([], ["--fragments"]):
    steer = Steer(*options)
    seen = {True: set(), False: set()}
    for take, meaning in RULES.items():
        check(steer.ask(f"take {take}") == "ok", f"{take}: refused")
        for name, frame in FRAMES.items():
            data = Ether(bytes(frame))  # as scapy reads it back, with all fields filled in
            answer, expected = steer.ask(f"frame {bytes(frame).hex()}"), bool(meaning(data))
            check(answer == ("taken" if expected else "passed"), f"take={take}: '{name}' was {answer}: {data.summary()}")
            seen[expected].add(take)
            verdicts += 1
    for take in RULES:  # a rule that takes everything, or nothing, of what is here proves nothing
        if take not in ("all", "none"):
            check(take in seen[True] and take in seen[False], f"take={take}: not tried both ways")
    for take, taken in OF_DAMAGED.items():
        check(steer.ask(f"take {take}") == "ok", f"{take}: refused")
        for name, data in DAMAGED.items():
            answer = steer.ask(f"frame {data.hex()}")
            check(answer == ("taken" if name in taken else "passed"), f"take={take}: damaged '{name}' was {answer}")
            verdicts += 1
    for take in REFUSED:
        answer = steer.ask(f"take {take}")
        check(answer.startswith("steer: take="), f"'{take[:40]}' was answered: {answer}")
    many = ",".join(f"udp:{n}" for n in range(4437, 4501))
    check(steer.ask(f"take {many}") == "ok", "64 rules: refused")
    check(steer.ask(f"frame {bytes(FRAMES['udp']).hex()}") == "taken", "the last of 64 rules")
    check(steer.ask(f"frame {bytes(FRAMES['udp, above']).hex()}") == "passed", "none of 64 rules")
    check(steer.close() == 0, "xdp_steer failed")

print(f"{verdicts} verdicts of the kernel's, {len(REFUSED)} texts refused")
if failures:
    sys.exit("\n".join(failures[:40]))
