"""Frames through mbdg, compared with what a bridge has to make of them: jumbo frames, VLAN tags, link-local protocols; ports
that come and go under load; sequence numbers from end to end. EFIO_LONG=1: ports of each kind, a million frames."""
import json
import time

from namespaces import interrupt
from scapy.all import Dot1AD, Dot1Q, Ether, LLC, Raw, STP
from skip import require_program, require_root
from _bridged import all_pairs, await_answer, bridge, connect, conserve, hosts_around, io_gen, ip, is_long, reaches, settle, Wire

require_root()
for program in ("ping", "ethtool"):
    require_program(program)

BROADCAST = "ff:ff:ff:ff:ff:ff"
TEST_TYPE = 0x88B5  # IEEE 802, local experimental


def wires(hosts):
    return [Wire(host) for host in hosts]


def close(all_wires):
    for wire in all_wires:
        wire.close()


# --- jumbo frames ---

def jumbo_frames(kinds):
    """9000 bytes at the longest, by ping with the don't-fragment bit, both ways between all; and nothing longer."""
    options = {"tap": "mtu=9000", "xdp": "frame=4096"}
    with hosts_around(kinds, mtu=9000) as (middle, hosts):
        with bridge(middle, hosts, options=options) as (_, result):
            for host in hosts:
                if host.kind == "tap":
                    ip("-n", host.name, "link", "set", "eth", "mtu", "9000")
            for size in (8972, 5000, 4000):
                all_pairs(hosts, 4, "-M", "do", "-s", size)
            assert not reaches(hosts[0], hosts[1].v4, 1, "-M", "do", "-s", 8973)
    assert not any("oversize" in port[way]["dropped"] for port in result["ports"] for way in ("rx", "tx")), result
    conserve(result)
    print(f"jumbo frames over {kinds}: whole")


# --- VLANs ---

def vlan_cases():
    """(port it comes in by, the frame, what leaves by which port). 0: access 10; 1: access 20; 2: trunk 10, 20; 3: trunk 10."""
    def frame(*tags, number):
        made = Ether(dst=BROADCAST, src=f"02:00:00:00:09:{number:02x}")
        for tag in tags:
            made = made / tag
        return bytes(made / Raw(bytes([number]) * 50)) if tags else bytes(
            Ether(dst=BROADCAST, src=f"02:00:00:00:09:{number:02x}", type=TEST_TYPE) / Raw(bytes([number]) * 50))

    def tag(vlan, prio=0, kind=TEST_TYPE):
        return Dot1Q(vlan=vlan, prio=prio, type=kind)

    inner = Dot1Q(vlan=77, prio=1, type=TEST_TYPE)
    yield 0, frame(number=1), {2: frame(tag(10), number=1), 3: frame(tag(10), number=1)}
    yield 1, frame(number=2), {2: frame(tag(20), number=2)}
    yield 2, frame(tag(10, 5), number=3), {0: frame(number=3), 3: frame(tag(10, 5), number=3)}
    yield 2, frame(tag(20, 7), number=4), {1: frame(number=4)}
    yield 3, frame(tag(10), number=5), {0: frame(number=5), 2: frame(tag(10), number=5)}
    yield 3, frame(tag(20), number=6), {}                     # not its VLAN
    yield 2, frame(number=7), {}                              # no tag, on a trunk
    yield 0, frame(tag(20), number=8), {}                     # another VLAN's
    # Of two tags the outer one counts, and the inner one stays.
    yield 2, frame(Dot1Q(vlan=10, type=0x8100), inner, number=9), {
        0: frame(inner, number=9), 3: frame(Dot1Q(vlan=10, type=0x8100), inner, number=9)}
    # A service tag is no VLAN of ours: it is what an access port carries.
    service = Dot1AD(vlan=30, type=TEST_TYPE)
    yield 0, frame(service, number=10), {port: frame(Dot1Q(vlan=10, type=0x88A8), service, number=10) for port in (2, 3)}


def vlan_tags(kinds):
    with hosts_around(kinds) as (middle, hosts):
        with bridge(middle, hosts, "--vlan", "0=10", "--vlan", "1=20", "--trunk", "2=10,20", "--trunk", "3=10") as (_, result):
            ends = wires(hosts)
            for port, sent, expected in vlan_cases():
                ends[port].send(sent)
                # Behind it one that is for all in the VLAN: with it everything has come.
                for to, end in enumerate(ends):
                    if to != port:
                        wanted = [expected[to]] if to in expected else []
                        mine = [f for f in end.frames(len(wanted), accept=lambda f: f[6:11] == bytes.fromhex("0200000009"))]
                        assert mine == wanted, (port, to, sent.hex(), [f.hex() for f in mine], [f.hex() for f in wanted])
            for end in ends:
                rest = end.frames(1, 0.2, accept=lambda f: f[6:11] == bytes.fromhex("0200000009"))
                assert not rest, [f.hex() for f in rest]
            close(ends)
    conserve(result)
    print(f"VLAN tags over {kinds}: set, taken away and kept")


# --- LLDP, spanning tree, pause ---

def link_frames():
    source = "02:00:00:00:09:01"
    yield "spanning tree", bytes(Ether(dst="01:80:c2:00:00:00", src=source, type=38) / LLC() / STP() / Raw(bytes(8)))
    yield "pause", bytes(Ether(dst="01:80:c2:00:00:01", src=source, type=0x8808) / Raw(bytes([0, 1, 0, 9]) + bytes(42)))
    yield "lldp", bytes(Ether(dst="01:80:c2:00:00:0e", src=source, type=0x88CC) / Raw(bytes(range(46))))


def link_protocols():
    """Through the wire and with --stp pass; dropped by a switch, and counted."""
    mine = lambda f: f[6:11] == bytes.fromhex("0200000009")
    for words, ports, passes in (((), 2, True), ((), 3, False), (("--stp", "pass"), 3, True), (("--stp", "drop"), 2, False)):
        with hosts_around(["packet"] * ports) as (middle, hosts):
            with bridge(middle, hosts, *words) as (_, result):
                ends = wires(hosts)
                for sender in (0, 1):
                    for _, frame in link_frames():
                        ends[sender].send(frame)
                    last = bytes(Ether(dst=BROADCAST, src="02:00:00:00:09:02", type=TEST_TYPE) / Raw(bytes(46)))
                    ends[sender].send(last)
                    wanted = ([frame for _, frame in link_frames()] if passes else []) + [last]
                    got = ends[1 - sender].frames(len(wanted), accept=mine)
                    assert got == wanted, (words, ports, [f.hex() for f in got])
                close(ends)
        filtered = sum(port["rx"]["dropped"].get("filtered", 0) for port in result["ports"])
        assert filtered == (0 if passes else 6), result
        conserve(result)
    print("LLDP, spanning tree and pause frames: through a wire, not through a switch unless asked for")


# --- sequence numbers ---

class Stream:
    """io_gen from one host to another, which checks every sequence number."""
    def __init__(self, sender, receiver, count, *words):
        self.count, self.to = count, receiver
        self.receiver = receiver.start(io_gen, "rx", "packet:eth?settle=0", "--count", count, "--duration", "100s", "--json",
                                       "--say-ready")
        assert "ready" in self.receiver.stderr.readline()
        self.sender = sender.start(io_gen, "tx", "packet:eth?settle=0", "--dst-mac", receiver.mac, "--count", count, "--json", *words)

    def result(self):
        """What both say, once all that is under way has arrived."""
        out, error = self.sender.communicate(timeout=110)
        assert self.sender.returncode == 0, error
        before = -1
        while self.receiver.poll() is None and before != (before := self.to.count("rx")):
            time.sleep(0.2)
        return json.loads(out)["ports"][0]["tx"], json.loads(interrupt(self.receiver)[0])


def every_frame(kinds, count, *words):
    """From host 0 to host 1 and back: each is received or counted as dropped, once, and in order within its flow."""
    with hosts_around(kinds, silent=True) as (middle, hosts):
        with bridge(middle, hosts, *words) as (_, result):
            # Who is where: else the first frames go to all.
            for host in hosts:
                host.run(io_gen, "tx", "packet:eth?settle=0", "--count", 1, "--no-tag", "--dst-mac", "01:80:c2:00:00:03", check=True)
            streams = [Stream(hosts[i], hosts[1 - i], count, "--flows", 1000, "--stream-base", 1000 * i) for i in (0, 1)]
            reports = [stream.result() for stream in streams]
    conserve(result)
    for (sent, got), into, out in zip(reports, result["ports"], result["ports"][1::-1]):
        numbers, received = got["sequence"], got["ports"][0]["rx"]
        assert sent["packets"] == count == into["rx"]["received"] - 1, (sent, into)
        # All that the bridge has sent has come, or was counted where there was no room for it.
        assert out["tx"]["packets"] - (len(hosts) == 2) == received["received"], (out, received)
        lost = sum(sum(side["dropped"].values()) for side in (into["rx"], out["tx"], received))
        lost -= len(hosts) > 2  # the frame that said who is where
        assert received["packets"] + lost == count and numbers["lost"] <= lost, (received, lost, numbers)
        assert numbers["duplicated"] == numbers["reordered"] == numbers["untagged"] == 0, numbers
    print(f"{count} frames each way over {kinds} {' '.join(words)}: "
          f"{' and '.join(str(got['ports'][0]['rx']['packets']) for _, got in reports)} received, the others counted; none twice, "
          "each flow in order")


# --- ports that come and go ---

def ports_flap(steady, flapping, rounds):
    """Down and up, deleted and made anew, while two others speak without loss and a third sends there."""
    with hosts_around([steady, steady, flapping]) as (middle, hosts):
        with bridge(middle, hosts, options={"packet": "ring=1024"}) as (process, result):
            all_pairs(hosts)
            seconds = rounds * 1.2
            stream = Stream(hosts[0], hosts[1], int(seconds * 10_000), "--rate", "10k", "--flows", 100)
            load = hosts[1].start(io_gen, "tx", "packet:eth?settle=0", "--dst-mac", hosts[2].mac, "--rate", "10k", "--duration",
                                  seconds, "--no-tag")
            where = middle.name if flapping != "tap" else hosts[2].name
            device = "p2" if flapping != "tap" else "eth"
            for _ in range(rounds):
                for _ in range(3):
                    ip("-n", where, "link", "set", device, "down")
                    time.sleep(0.02)
                    ip("-n", where, "link", "set", device, "up")
                    time.sleep(0.02)
                ip("-n", where, "link", "del", device)
                line = process.stderr.readline()
                assert "port 2 is gone" in line, line
                if flapping == "tap":  # mbdg makes it anew
                    line = process.stderr.readline()
                    ip("-n", middle.name, "link", "set", "p2", "netns", hosts[2].name, "name", "eth")
                    settle(hosts[2])
                else:
                    connect(middle, hosts[2])
                    line = process.stderr.readline()
                assert "port 2 is back" in line, line
            await_answer(hosts[0], hosts[2].v4)
            sent, got = stream.result()
            load.communicate(timeout=60)
            assert process.poll() is None
        conserve(result)
        assert sent["packets"] == stream.count
        assert got["ports"][0]["rx"]["packets"] == stream.count, (got, result)
        assert not any(got["sequence"][what] for what in ("lost", "duplicated", "reordered")), got
        assert [port["openings"] for port in result["ports"]] == [1, 1, 1 + rounds] and result["code"] == 0, result
    print(f"{flapping} gone and back {rounds} times: {stream.count} frames between ports on {steady} without loss")



EACH = ("packet", "xdp", "tap")
if is_long:
    for kind in EACH:
        jumbo_frames(" ".join([kind] * 3))
        vlan_tags(" ".join([kind] * 4))
    jumbo_frames("packet packet packet xdp xdp xdp tap tap")
    for kind in ("packet", "xdp"):
        for ports in (2, 3):
            for words in ((), ("--full", "wait"), ("--cpu", "0,1")):
                every_frame(" ".join([kind] * ports), 1_000_000, *words)
    every_frame("packet xdp tap", 1_000_000)
    for steady in EACH:
        for flapping in EACH:
            ports_flap(steady, flapping, 8)
else:
    jumbo_frames("packet xdp tap")
    every_frame("packet packet", 50_000, "--full", "wait")
    every_frame("xdp xdp xdp", 50_000)
    ports_flap("xdp", "packet", 1)
vlan_tags("packet packet xdp tap")
link_protocols()
print("mbdg: satisfied")
