"""Frames that scapy makes, and the meaning of steering rules once more over scapy's view of a frame."""
import ipaddress

from scapy.all import (AH, ARP, Dot1AD, Dot1Q, Ether, GRE, ICMP, ICMPv6EchoRequest, IP, IPOption_Router_Alert, IPv6,
                       IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Raw, SCTP, TCP, UDP, bind_layers)

bind_layers(AH, UDP, nh=17)

DST, SRC, BROADCAST = "02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff"


def ether(**options):
    return Ether(**{"dst": DST, "src": SRC, **options})


v4 = dict(src="198.51.100.7", dst="203.0.113.9")
v6 = dict(src="2001:db8::7", dst="2001:db8:0:1::9")
udp, tcp = UDP(sport=1234, dport=4500), TCP(sport=49152, dport=80)

FRAMES = {
    "udp": ether() / IP(**v4) / udp,
    "udp, lowest": ether() / IP(**v4) / UDP(sport=4500, dport=4000),
    "udp, highest": ether() / IP(**v4) / UDP(sport=1, dport=5000),
    "udp, below": ether() / IP(**v4) / UDP(sport=4000, dport=3999),
    "udp, above": ether() / IP(**v4) / UDP(sport=65535, dport=5001),
    "udp, back": ether() / IP(src=v4["dst"], dst=v4["src"]) / UDP(sport=4500, dport=1234),
    "udp, others": ether() / IP(src="198.51.101.1", dst="192.0.2.1") / udp,
    "udp, neighbour": ether() / IP(src="198.51.100.8", dst="203.0.113.10") / udp,
    "udp, options": ether() / IP(**v4, options=[IPOption_Router_Alert()]) / udp,
    "udp, most options": ether() / IP(**v4, options=b"\x01" * 40) / udp,
    "tcp, options": ether() / IP(**v4, options=[IPOption_Router_Alert()]) / tcp,
    "udp, jumbo": ether() / IP(**v4) / udp / Raw(b"x" * 1400),
    "tcp": ether() / IP(**v4) / tcp,
    "tcp, ssh": ether() / IP(**v4) / TCP(sport=50000, dport=22),
    "tcp, from 80": ether() / IP(**v4) / TCP(sport=80, dport=50000),
    "sctp": ether() / IP(**v4) / SCTP(sport=4500, dport=4600),
    "icmp": ether() / IP(**v4) / ICMP() / b"0123456789",
    "gre": ether() / IP(**v4) / GRE() / IP() / udp,
    "udp, first fragment": ether() / IP(**v4, flags="MF") / udp / Raw(b"x" * 24),
    "udp, next fragment": ether() / IP(**v4, frag=4, proto=17) / Raw(bytes(udp) + b"x" * 8),
    "udp, do not fragment": ether() / IP(**v4, flags="DF") / udp,
    "arp": ether(dst=BROADCAST) / ARP(psrc="198.51.100.7", pdst="203.0.113.9"),
    "arp, others": ether(dst=BROADCAST) / ARP(psrc="192.0.2.1", pdst="192.0.2.2"),
    "arp, strange": ether(dst=BROADCAST) / ARP(hwlen=8, psrc="198.51.100.7", pdst="203.0.113.9"),
    "udp6": ether() / IPv6(**v6) / udp,
    "tcp6": ether() / IPv6(**v6) / tcp,
    "icmp6": ether() / IPv6(**v6) / ICMPv6EchoRequest(),
    "udp6, others": ether() / IPv6(src="2001:db8:1::1", dst="2001:db8:2::2") / udp,
    "udp6, hop by hop": ether() / IPv6(**v6) / IPv6ExtHdrHopByHop() / udp,
    "udp6, three": ether() / IPv6(**v6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt() / udp,
    "udp6, authenticated": ether() / IPv6(**v6) / AH(nh=17, payloadlen=4, icv=b"i" * 12) / udp,
    "udp6, first fragment": ether() / IPv6(**v6) / IPv6ExtHdrFragment(m=1) / udp / Raw(b"x" * 24),
    "udp6, next fragment": ether() / IPv6(**v6) / IPv6ExtHdrFragment(offset=4, nh=17) / Raw(bytes(udp)),
    "udp6, whole": ether() / IPv6(**v6) / IPv6ExtHdrFragment(m=0, offset=0) / udp,
    "vlan 7": ether() / Dot1Q(vlan=7) / IP(**v4) / udp,
    "vlan 7, priority": ether() / Dot1Q(vlan=7, prio=5, id=1) / IP(**v4) / udp,
    "vlan 8": ether() / Dot1Q(vlan=8) / IP(**v4) / udp,
    "vlan 0": ether() / Dot1Q(vlan=0, prio=3) / IP(**v4) / udp,
    "vlan 7, arp": ether(dst=BROADCAST) / Dot1Q(vlan=7) / ARP(psrc="198.51.100.7", pdst="203.0.113.9"),
    "vlan 7, udp6": ether() / Dot1Q(vlan=7) / IPv6(**v6) / udp,
    "qinq 9, 7": ether() / Dot1AD(vlan=9) / Dot1Q(vlan=7) / IP(**v4) / udp,
    "other mac": ether(dst="02:00:00:00:01:01") / IP(**v4) / udp,
    "lldp": ether(type=0x88CC) / Raw(b"x" * 46),
    "llc": Ether(dst=DST, src=SRC, type=46) / Raw(b"x" * 46),
}


def tags(frame):
    found, layer = [], frame.payload
    while isinstance(layer, (Dot1Q, Dot1AD)):
        found.append(layer)
        layer = layer.payload
    return found


def ether_type(frame):
    return getattr(([frame] + tags(frame))[-1], "type", 0)  # IEEE 802.3 has a length instead


def addresses(frame):
    if ARP in frame and frame[ARP].hwlen in (None, 6):
        return frame[ARP].psrc, frame[ARP].pdst
    for layer in (IP, IPv6):
        if layer in frame:
            return frame[layer].src, frame[layer].dst
    return None


def is_fragment(frame):
    if IP in frame and (frame[IP].flags.MF or frame[IP].frag):
        return True
    part = frame.getlayer(IPv6ExtHdrFragment)
    return part is not None and bool(part.m or part.offset)


def protocol(frame):
    """The outermost protocol above IP, as a number."""
    if IP in frame:
        return frame[IP].proto
    if IPv6 not in frame:
        return None
    layer = frame[IPv6]
    while True:
        number = layer.nh
        if number not in (0, 43, 44, 51, 60) or (isinstance(layer, IPv6ExtHdrFragment) and layer.offset):
            return number
        layer = layer.payload


def ports(frame):
    number = protocol(frame)
    layer = {6: TCP, 17: UDP, 132: SCTP}.get(number)
    if layer is None or is_fragment(frame):
        return None
    return frame[layer].sport, frame[layer].dport


def inside(frame, which, *networks):
    found = addresses(frame)
    if found is None:
        return False
    picked = {"src": found[:1], "dst": found[1:], "either": found}[which]
    return any(ipaddress.ip_address(a) in ipaddress.ip_network(n) for a in picked for n in networks
               if ipaddress.ip_address(a).version == ipaddress.ip_network(n).version)


def dport(frame, number, low, high):
    return protocol(frame) == number and ports(frame) is not None and low <= ports(frame)[1] <= high


def is_tagged(frame, low=0, high=4095):
    return bool(tags(frame)) and low <= tags(frame)[0].vlan <= high


RULES = {
    "all": lambda f: True,
    "none": lambda f: False,
    "arp": lambda f: ether_type(f) == 0x0806,
    "arp:203.0.113.9": lambda f: ARP in f and inside(f, "either", "203.0.113.9/32"),
    "arp+src:198.51.100.0/24": lambda f: ARP in f and inside(f, "src", "198.51.100.0/24"),
    "dst:203.0.113.0/24+arp": lambda f: ARP in f and inside(f, "dst", "203.0.113.0/24"),
    "ip": lambda f: IP in f,
    "ip:198.51.100.0/24": lambda f: IP in f and inside(f, "either", "198.51.100.0/24"),
    "ip:198.51.100.7": lambda f: IP in f and inside(f, "either", "198.51.100.7/32"),
    "ip:0.0.0.0/0": lambda f: IP in f,
    "src:198.51.100.0/24": lambda f: IP in f and inside(f, "src", "198.51.100.0/24"),
    "dst:198.51.100.0/24": lambda f: IP in f and inside(f, "dst", "198.51.100.0/24"),
    "ip:198.51.100.0/24+dst:203.0.113.8/29": lambda f: IP in f and inside(f, "src", "198.51.100.0/24")
                                                       and inside(f, "dst", "203.0.113.8/29"),
    "src:198.51.100.0/24+dst:203.0.113.9": lambda f: IP in f and inside(f, "src", "198.51.100.0/24")
                                                     and inside(f, "dst", "203.0.113.9/32"),
    "ip6": lambda f: IPv6 in f,
    "ip6:2001:db8::/47": lambda f: IPv6 in f and inside(f, "either", "2001:db8::/47"),
    "src:2001:db8::7": lambda f: IPv6 in f and inside(f, "src", "2001:db8::7/128"),
    "dst:2001:db8:0:1::/64": lambda f: IPv6 in f and inside(f, "dst", "2001:db8:0:1::/64"),
    "icmp": lambda f: IP in f and protocol(f) == 1,
    "icmp6": lambda f: IPv6 in f and protocol(f) == 58,
    "udp": lambda f: protocol(f) == 17,
    "udp+ip": lambda f: IP in f and protocol(f) == 17,
    "ip6+udp:4500": lambda f: IPv6 in f and dport(f, 17, 4500, 4500),
    "udp:4000-5000": lambda f: dport(f, 17, 4000, 5000),
    "udp:4500": lambda f: dport(f, 17, 4500, 4500),
    "udp:0-65535": lambda f: dport(f, 17, 0, 65535),
    "tcp": lambda f: protocol(f) == 6,
    "tcp:80": lambda f: dport(f, 6, 80, 80),
    "tcp+sport:80": lambda f: protocol(f) == 6 and ports(f)[0] == 80,
    "sctp": lambda f: protocol(f) == 132,
    "sctp:4600": lambda f: dport(f, 132, 4600, 4600),
    "dport:4500": lambda f: ports(f) is not None and ports(f)[1] == 4500,
    "port:4500": lambda f: ports(f) is not None and 4500 in ports(f),
    "tcp+port:80": lambda f: protocol(f) == 6 and 80 in ports(f),
    "port:4000-5000+sport:4500-65535": lambda f: ports(f) is not None and ports(f)[0] >= 4500
                                                 and any(4000 <= p <= 5000 for p in ports(f)),
    "ip:198.51.100.7+port:4500": lambda f: IP in f and inside(f, "either", "198.51.100.7/32")
                                           and ports(f) is not None and 4500 in ports(f),
    "proto:47": lambda f: protocol(f) == 47,
    "frag": is_fragment,
    "frag+udp": lambda f: is_fragment(f) and protocol(f) == 17,
    "udp:4000-5000,frag+udp": lambda f: dport(f, 17, 4000, 5000) or (is_fragment(f) and protocol(f) == 17),
    "vlan": is_tagged,
    "vlan:7": lambda f: is_tagged(f, 7, 7),
    "vlan:8-9": lambda f: is_tagged(f, 8, 9),
    "vlan:0": lambda f: is_tagged(f, 0, 0),
    "untagged": lambda f: not is_tagged(f),
    "untagged+udp": lambda f: not is_tagged(f) and protocol(f) == 17,
    "vlan:7+udp:4500+dst:203.0.113.0/24": lambda f: is_tagged(f, 7, 7) and dport(f, 17, 4500, 4500)
                                                   and inside(f, "dst", "203.0.113.0/24"),
    "vlan+arp": lambda f: is_tagged(f) and ether_type(f) == 0x0806,
    "ether:0x88cc": lambda f: ether_type(f) == 0x88CC,
    "ether:34525": lambda f: ether_type(f) == 0x86DD,
    "mac:ff:ff:ff:ff:ff:ff": lambda f: f.dst == BROADCAST,
    "mac:02:00:00:00:01:01+udp": lambda f: f.dst == "02:00:00:00:01:01" and protocol(f) == 17,
    "arp,udp:4000-5000,tcp:80": lambda f: ether_type(f) == 0x0806 or dport(f, 17, 4000, 5000) or dport(f, 6, 80, 80),
    "all,!tcp:22": lambda f: not dport(f, 6, 22, 22),
    "ip,!udp,!icmp": lambda f: IP in f and protocol(f) not in (17, 1),
    "udp,!ip:198.51.100.8": lambda f: protocol(f) == 17 and not (IP in f and inside(f, "either", "198.51.100.8/32")),
}
