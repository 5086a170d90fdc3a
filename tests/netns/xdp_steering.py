"""Steering on a real port: what a rule takes comes to the program and not to the host, all else to the host and not to the
program, native and generic, and while rules change; the host's own ping and iperf3 go on beside it."""
import ctypes
import json
import os
import signal
import socket
import time

from namespaces import interrupt, veth_pair
from skip import require_program, require_root

require_root()
require_program("iperf3")

from scapy.all import Ether

from _receiver import Receiver, Refused
from _steering import FRAMES, RULES

ALL_PROTOCOLS = 3  # ETH_P_ALL
io_gen = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")
libc = ctypes.CDLL(None, use_errno=True)


def packet_socket(namespace):
    """Sees what the host gets, sends past everything."""
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{namespace.name}") as there:
        assert libc.setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        try:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
            opened.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
            opened.bind((namespace.device, ALL_PROTOCOLS))
        finally:
            assert libc.setns(home.fileno(), 0) == 0
    return opened


def marked(frame, number):
    """Behind the packet, where padding is: tells the frame from every other, whatever becomes of its tag."""
    return bytes(frame).ljust(60, b"\0") + b"efio" + number.to_bytes(4, "big")


def number_of(data):
    return int.from_bytes(data[-4:], "big") if data[-8:-4] == b"efio" else None


def seen_by(sock, wanted, seconds):
    numbers, end = [], time.monotonic() + seconds
    while len(numbers) < wanted and (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            numbers.append(number_of(sock.recv(65536)))
        except TimeoutError:
            break
    return [number for number in numbers if number is not None]


def each_frame_goes_one_way(a, b):
    for attach in ("native", "generic"):
        port = Receiver(a, f"xdp:{a.device}?attach={attach}&take=none")
        assert port.mode.startswith(attach), port.mode
        host, sender = packet_socket(a), packet_socket(b)
        number = 0
        for take, meaning in RULES.items():
            assert port.take(take) == "ok", take
            taken, passed = set(), set()
            for frame in FRAMES.values():
                number += 1
                sender.send(marked(frame, number))
                (taken if meaning(Ether(bytes(frame))) else passed).add(number)
            ours = port.frames(len(taken), 5)
            assert sorted(map(number_of, ours)) == sorted(taken), (attach, take, set(map(number_of, ours)) ^ taken)
            theirs = seen_by(host, len(passed), 5)
            assert sorted(theirs) == sorted(passed), (attach, take, set(theirs) ^ passed)
        assert port.frames(1, 0.2) == [] and seen_by(host, 1, 0.2) == []
        port.close()
        sender.send(marked(FRAMES["udp"], number))
        assert seen_by(host, 1, 5) == [number], "a closed port takes nothing more"
        host.close(), sender.close()


def a_bad_rule_changes_nothing(a, b):
    try:
        Receiver(a, f"xdp:{a.device}?take=udp:4000-")
        raise AssertionError("opened")
    except Refused as error:
        assert "'4000-' is no value of udp" in str(error), error
    port = Receiver(a, f"xdp:{a.device}?take=udp:4500")
    assert "no condition 'udq'" in port.take("udq")
    sender = packet_socket(b)
    sender.send(marked(FRAMES["udp"], 1))
    sender.send(marked(FRAMES["tcp"], 2))
    assert [number_of(frame) for frame in port.frames(2, 0.5)] == [1]
    sender.close()
    port.close()


def killed_it_leaves_the_device_to_the_host(a, b):
    for attach in ("native", "generic"):
        port = Receiver(a, f"xdp:{a.device}?attach={attach}")
        host, sender = packet_socket(a), packet_socket(b)
        sender.send(marked(FRAMES["udp"], 1))
        assert [number_of(frame) for frame in port.frames(1)] == [1]
        port.process.kill()
        port.process.wait()
        link = a.run("ip", "-d", "link", "show", a.device).stdout
        assert " xdp" not in link and "promiscuity 0" in link, link
        sender.send(marked(FRAMES["udp"], 2))
        assert seen_by(host, 1, 5) == [2]
        Receiver(a, f"xdp:{a.device}?attach={attach}").close()
        host.close(), sender.close()


def the_host_goes_on_beside_us(a, b):
    for end, address in ((a, "198.18.0.1"), (b, "198.18.0.2")):
        end.run("ip", "addr", "add", f"{address}/24", "dev", end.device, check=True)
    server = a.start("iperf3", "-s", "--forceflush")
    while "listening" not in server.stdout.readline():
        pass
    count = 100000
    ours = a.start(io_gen, "rx", f"xdp:{a.device}?take=udp:4000-5000", "--json", "--say-ready")
    assert ours.stderr.readline() == "io_gen: ready\n"
    flood = b.start(io_gen, "tx", f"packet:{b.device}", "--dport", "4000-5000", "--flows", 1001, "--rate", "25k", "--count", count)
    pings = b.start("ping", "-q", "-i", "0.02", "-c", "100", "198.18.0.1")
    throughput = b.run("iperf3", "-c", "198.18.0.1", "-t", "2", "--json")
    assert throughput.returncode == 0, throughput.stdout + throughput.stderr
    received = json.loads(throughput.stdout)["end"]["sum_received"]["bits_per_second"]
    assert received > 10e6, f"{received} bit/s"
    said = pings.communicate(timeout=60)[0]
    assert " 0% packet loss" in said, said
    told = b.run("iperf3", "-c", "198.18.0.1", "-u", "-b", "5M", "-t", "1", "--json")  # UDP, to port 5201
    assert told.returncode == 0 and json.loads(told.stdout)["end"]["sum"]["lost_percent"] < 1, told.stdout
    assert flood.wait(timeout=60) == 0, flood.stderr.read()
    rx = json.loads(interrupt(ours)[0])["ports"][0]["rx"]
    assert rx["received"] == count, f"{rx} of {count}: all of ours, and nothing of the host's"
    assert rx["received"] == rx["packets"] + sum(rx["dropped"].values()), rx
    server.send_signal(signal.SIGINT)


for case in (each_frame_goes_one_way, a_bad_rule_changes_nothing, killed_it_leaves_the_device_to_the_host, the_host_goes_on_beside_us):
    with veth_pair() as (a, b):
        # AF_XDP has no sign for a checksum that is still to be filled in, nor for a segment still to be cut.
        for end in (a, b):
            end.run("ethtool", "-K", end.device, "tx", "off", "tso", "off", "gso", "off", check=True)
        case(a, b)
        print(case.__name__)
