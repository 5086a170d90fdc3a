"""A capture made by scapy and replayed with other addresses is what scapy makes of these, byte for byte."""
import os
import subprocess
import sys
import tempfile
import warnings

from skip import require

try:
    warnings.simplefilter("ignore")
    from scapy.all import (ARP, ICMP, IP, TCP, UDP, Dot1Q, Ether, ICMPerror, ICMPv6DestUnreach, ICMPv6EchoRequest, IPerror, IPerror6, IPv6,
                           IPv6ExtHdrDestOpt, Raw, UDPerror, fragment, raw, rdpcap, wrpcap)
except ImportError as error:
    require(False, f"needs scapy: {error}")

IO_GEN = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")
MAPS = {"10.1.": "172.16.", "2001:db8:1::": "2001:db8:ffff::"}
ARGUMENTS = ["--map", "10.1.0.0/16=172.16.0.0/16", "--map", "2001:db8:1::/64=2001:db8:ffff::/64"]


def packets(net, net6, macs):
    """The same packets in these networks; everything else, and every checksum, is scapy's."""
    src, dst = macs
    ether = Ether(src=src, dst=dst)
    a, b, outside = f"{net}0.1", f"{net}255.254", "192.0.2.7"
    data = Raw(bytes(range(64)))
    yield ether / IP(src=a, dst=b) / UDP(sport=1, dport=65535) / data
    yield ether / IP(src=a, dst=outside) / UDP(sport=53, dport=53, chksum=0) / data
    yield ether / Dot1Q(vlan=7) / IP(src=outside, dst=b, options=[]) / TCP(sport=80, dport=1024, flags="SA") / data
    yield ether / Dot1Q(vlan=7) / Dot1Q(vlan=9) / IP(src=b, dst=a, ttl=1) / ICMP(id=77, seq=3) / data
    quoted = IPerror(src=b, dst=a, len=92) / UDPerror(sport=5, dport=6, len=72, chksum=0) / Raw(bytes(8))
    yield ether / IP(src=a, dst=b) / ICMP(type=3, code=3) / quoted
    yield ether / IP(src=f"{net}9.9", dst=b) / ICMP(type=11) / quoted  # from a router on the way
    quoted = IPerror6(src=f"{net6}2", dst=f"{net6}1", plen=28) / UDPerror(sport=5, dport=6, len=28) / Raw(bytes(20))
    yield ether / IPv6(src=f"{net6}9", dst=f"{net6}2") / ICMPv6DestUnreach(code=4) / quoted
    yield ether / ARP(op=1, psrc=a, pdst=b, hwsrc=src)
    yield ether / ARP(op=2, psrc=outside, pdst=b, hwsrc=src)
    yield ether / IPv6(src=f"{net6}1", dst=f"{net6}2") / UDP(sport=9, dport=10) / data
    yield ether / IPv6(src=f"{net6}1", dst="2001:db8:2::1") / TCP(sport=9, dport=10) / data
    yield ether / IPv6(src="2001:db8:2::1", dst=f"{net6}ffff") / IPv6ExtHdrDestOpt() / UDP(sport=9, dport=10) / data
    yield ether / IPv6(src=f"{net6}1", dst=f"{net6}2") / ICMPv6EchoRequest(id=4, data=b"x" * 20)
    yield ether / IP(src=outside, dst="192.0.2.8") / UDP(sport=1, dport=2) / data
    yield Ether(src=src, dst=dst, type=0x88CC) / Raw(bytes(50))
    for piece in fragment(IP(src=a, dst=b, id=99) / UDP(sport=7, dport=8) / Raw(bytes(3000)), 1400):
        yield ether / piece


def replay(folder, frames, *arguments):
    source, sink = os.path.join(folder, "in.pcapng"), os.path.join(folder, "out.pcap")
    wrpcap(source, frames)
    done = subprocess.run([IO_GEN, "tx", f"pcap:{sink}", "--from", source, "--timing", "full", *arguments],
                          capture_output=True, text=True, timeout=60)
    require_success(done)
    return [bytes(frame) for frame in rdpcap(sink)]


def require_success(done):
    if done.returncode != 0:
        sys.exit(f"io_gen ended with {done.returncode}: {done.stderr}")


def main():
    before = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    after = ("02:00:00:00:00:0a", "02:00:00:00:00:0b")
    with tempfile.TemporaryDirectory() as folder:
        sent = list(packets("10.1.", "2001:db8:1::", before))
        got = replay(folder, sent, *ARGUMENTS, "--src-mac", after[0], "--dst-mac", after[1])
        # What ARP says of MAC addresses is not the Ethernet header's.
        wanted = [raw(frame) for frame in packets("172.16.", "2001:db8:ffff::", after)]
        for frame in range(len(wanted)):
            if sent[frame].haslayer(ARP):
                wanted[frame] = wanted[frame][:22] + raw(sent[frame])[22:28] + wanted[frame][28:]
        wrong = [i for i in range(len(wanted)) if i >= len(got) or got[i] != wanted[i]]
        for i in wrong:
            print(f"frame {i}: {sent[i].summary()}\n  got    {got[i].hex() if i < len(got) else None}\n"
                  f"  wanted {wanted[i].hex()}")
        again = replay(folder, sent, "--loop", "3")
        if again != [raw(frame) for frame in sent] * 3:
            sys.exit("three passes are not three times the capture")
        print(f"{len(wanted)} frames, {len(wrong)} wrong")
        sys.exit(1 if wrong or len(got) != len(wanted) else 0)


main()
