"""Namespaces as hosts at the ports of mbdg, for the scripts that test it.

A host's `eth` is the other end of the veth p<i> of the namespace that the bridge is in; or, for a port tap:p<i>, the device
itself. Host i has 10.7.0.<i+1>/16, fd00:7::<i+1>/64 and the MAC address 02:00:00:00:07:<i+1>.
"""
import contextlib
import ctypes
import json
import os
import socket
import struct
import subprocess

from namespaces import interrupt, wait_until, Namespace

mbdg = os.path.join(os.environ["EFIO_BIN_DIR"], "mbdg")
io_gen = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")
is_long = os.environ.get("EFIO_LONG") == "1"
libc = ctypes.CDLL(None, use_errno=True)


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, timeout=30)


class Host(Namespace):
    def __init__(self, number, kind):
        super().__init__(f"efio_h{number}_{os.getpid()}", "eth")
        self.number, self.kind = number, kind
        self.mac = f"02:00:00:00:07:{number + 1:02x}"
        self.v4, self.v6 = f"10.7.0.{number + 1}", f"fd00:7::{number + 1:x}"

    def uri(self, options):
        words = "&".join(word for word in ("settle=0", options.get(self.kind)) if word)
        return f"{self.kind}:p{self.number}?{words}"


@contextlib.contextmanager
def hosts_around(kinds, offloads=False, mtu=1500, silent=False):
    """A namespace for the bridge, and one for each host: `kinds` are the schemes of the ports, as a list or "packet xdp".
    Silent hosts have no addresses, so that their kernels send nothing at all."""
    middle = Namespace(f"efio_br_{os.getpid()}", "lo")
    hosts = [Host(i, kind) for i, kind in enumerate(kinds.split() if isinstance(kinds, str) else kinds)]
    try:
        for space in [middle, *hosts]:
            ip("netns", "add", space.name)
            # Nobody speaks unasked, and an address is good at once.
            space.run("sysctl", "-q", *(f"net.ipv6.conf.default.{word}" for word in (
                "router_solicitations=0", "accept_dad=0", f"disable_ipv6={1 if silent or space is middle else 0}")), check=True)
        for host in hosts:
            if host.kind != "tap":
                connect(middle, host, offloads, mtu)
        yield middle, hosts
    finally:
        for process in [p for space in [middle, *hosts] for p in space.started if p.poll() is None]:
            process.kill()
            process.wait()
        for space in [middle, *hosts]:
            subprocess.run(["ip", "netns", "del", space.name], stderr=subprocess.DEVNULL, timeout=30)


def connect(middle, host, offloads=False, mtu=1500):
    device = f"p{host.number}"
    ip("link", "add", "eth", "netns", host.name, "mtu", mtu, "type", "veth", "peer", "name", device, "netns", middle.name,
       "mtu", mtu)
    if not offloads:
        host.run("ethtool", "-K", "eth", "tx", "off", "tso", "off", "gso", "off", check=True)
    ip("-n", middle.name, "link", "set", device, "up")
    settle(host)


def settle(host):
    """Its addresses, the same when the device was made anew."""
    words = f"link set eth address {host.mac}\nlink set eth up\n"
    if host.run("cat", "/proc/sys/net/ipv6/conf/eth/disable_ipv6").stdout.strip() == "0":
        words += f"addr add {host.v4}/16 dev eth\naddr add {host.v6}/64 dev eth nodad\n"
    subprocess.run(["ip", "-n", host.name, "-batch", "-"], input=words, text=True, check=True, timeout=30)


@contextlib.contextmanager
def bridge(middle, hosts, *words, options=(), offloads=False):
    """Runs mbdg. `options`: more for the ports, by scheme. The result is its JSON, and its exit code as "code"."""
    options = dict(options)
    process = middle.start(mbdg, "--json", "--say-ready", *(host.uri(options) for host in hosts), *words)
    line = process.stderr.readline()
    assert "ready" in line, line + process.communicate(timeout=5)[1]
    for host in hosts:
        if host.kind != "tap":
            continue
        ip("-n", middle.name, "link", "set", f"p{host.number}", "netns", host.name, "name", "eth")
        if not offloads:
            host.run("ethtool", "-K", "eth", "tx", "off", "tso", "off", "gso", "off")
        settle(host)
    result = {}
    try:
        yield process, result
    finally:
        if process.poll() is None:
            out, error = interrupt(process)
            print(error, end="")
            result.update(json.loads(out))
            result["code"] = process.returncode


def conserve(result):
    """received + made + copied = sent + pending + waiting + dropped, over all ports."""
    total = result["copied"]
    for port in result["ports"]:
        total += port["rx"]["received"] + port["rx"]["made"] + port["tx"]["made"]
        total -= port["rx"]["waiting"] + sum(port["rx"]["dropped"].values())
        total -= port["tx"]["packets"] + port["tx"]["pending"] + sum(port["tx"]["dropped"].values())
    assert total == 0, (total, result)
    of = result["conservation"]
    assert of["received"] + of["made"] + of["copied"] == sum(
        of[key] for key in ("sent", "pending", "waiting", "consumed", "dropped")), result


def reaches(host, address, count=1, *words):
    ping = host.run("ping", "-c", count, "-i", "0.02", "-W", 1, *words, address)
    return ping.returncode == 0 and "DUP" not in ping.stdout


def await_answer(host, address, *words):
    wait_until(lambda: reaches(host, address, 1, *words), f"{host.name}: no answer from {address}")


def all_pairs(hosts, version=4, *words):
    """Every host pings every other, all hosts at once."""
    for host in hosts[1:]:
        await_answer(hosts[0], getattr(host, f"v{version}"), *words)
    asking = []
    for host in hosts:
        others = [getattr(other, f"v{version}") for other in hosts if other is not host]
        ping = " ".join(["ping", "-c", "2", "-i", "0.02", "-W", "3", *map(str, words)])
        asking.append((host, host.start("sh", "-c", " && ".join(f"{ping} {address}" for address in others))))
    for host, process in asking:
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0 and "DUP" not in out, (host.name, out, error)


def throughput(server, client, *words, address=None):
    """What iperf3 says of its end: TCP, or what the words ask for."""
    server.start("iperf3", "-s", "-1")
    wait_until(lambda: ":5201" in server.run("ss", "-ltn").stdout, "iperf3 does not listen")
    client = client.run("iperf3", "-c", address or server.v4, "-J", *words)
    assert client.returncode == 0, client.stdout + client.stderr
    return json.loads(client.stdout)["end"]


@contextlib.contextmanager
def inside(namespace):
    """This thread in the namespace: for sockets, which stay where they were made."""
    CLONE_NEWNET = 0x40000000  # <linux/sched.h>
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{namespace.name}") as there:
        assert libc.setns(there.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


class Wire:
    """A host's link as frames, tags and all; only EtherTypes of the tests', so that the kernel's own are left out."""
    SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 8, 23, 3  # <linux/if_packet.h>
    TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40

    def __init__(self, host, device="eth"):
        with inside(host):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(self.ETH_P_ALL))
        for option in (self.PACKET_AUXDATA, self.PACKET_IGNORE_OUTGOING):
            self.socket.setsockopt(self.SOL_PACKET, option, 1)
        self.socket.bind((device, self.ETH_P_ALL))
        membership = struct.pack("iHH8s", self.index(host, device), 1, 0, b"")
        self.socket.setsockopt(self.SOL_PACKET, 1, membership)  # PACKET_ADD_MEMBERSHIP, promiscuous

    @staticmethod
    def index(host, device):
        return int(host.run("cat", f"/sys/class/net/{device}/ifindex").stdout)

    def send(self, frame):
        self.socket.send(bytes(frame))

    def frames(self, wanted, seconds=3.0, accept=lambda frame: True):
        """So many, or what came in that time."""
        found = []
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while len(found) < wanted:
                frame, control, _, _ = self.socket.recvmsg(65600, 256)
                for level, kind, data in control:
                    if level == self.SOL_PACKET and kind == self.PACKET_AUXDATA:
                        status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                        if status & self.TP_STATUS_VLAN_VALID:
                            tpid = tpid if status & self.TP_STATUS_VLAN_TPID_VALID else 0x8100
                            frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
                if accept(frame):
                    found.append(frame)
        return found

    def close(self):
        self.socket.close()
