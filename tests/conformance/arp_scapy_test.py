"""scapy speaks ARP with an ArpTable: the dialogues of RFC 826, 1122 (2.3.2) and 5227, conflicts, floods, a dead neighbour."""
from _neighbours import Ether, Table as AnyTable, finish, mac, same
from scapy.all import ARP, Dot1Q

US, US_MAC, ALL = "10.0.0.1", "02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff"


class Table(AnyTable):
    def __init__(self, capacity=1024, how="now", prefix=24):
        super().__init__("arp", US, US_MAC, how, prefix, capacity)


def request(source, source_mac, target=US, **fields):
    return Ether(src=source_mac, dst=ALL) / ARP(op=1, hwsrc=source_mac, psrc=source, pdst=target, **fields)


def reply(source, source_mac, to=US_MAC, target=US):
    return Ether(src=source_mac, dst=to) / ARP(op=2, hwsrc=source_mac, psrc=source, hwdst=to, pdst=target)


def fields(frame):
    arp = frame[ARP]
    return frame.src, frame.dst, arp.hwtype, arp.ptype, arp.hwlen, arp.plen, arp.op, arp.hwsrc, arp.psrc, arp.hwdst, arp.pdst


def merge_and_create():  # A1, A2
    table = Table()
    event, frames = table.frame(request("10.0.0.2", mac(2)))
    same("a request for us", event, "learned")
    same("one reply", len(frames), 1)
    same("reply", fields(frames[0]), (US_MAC, mac(2), 1, 0x800, 6, 4, 2, US_MAC, US, mac(2), "10.0.0.2"))
    same("reply is a whole frame", len(frames[0]), 60)
    same("a request for another", table.frame(request("10.0.0.3", mac(3), "10.0.0.9")), ("ignored", []))
    same("size", table.ask("size"), "1")
    same("known sender merged", table.frame(request("10.0.0.2", mac(22), "10.0.0.9")), ("changed", []))
    same("merged", table.state("10.0.0.2")[1], mac(22))
    same("an unasked reply", table.frame(reply("10.0.0.4", mac(4)))[0], "ignored")
    table.close()


def faults():  # A3
    table = Table()
    for what, offset, value in (("hardware type", 14, b"\0\6"), ("protocol", 16, b"\x86\xdd"), ("MAC length", 18, b"\x08"),
                                ("address length", 19, b"\x10")):
        raw = bytearray(bytes(request("10.0.0.2", mac(2))))
        raw[offset:offset + len(value)] = value
        same(what, table.frame(raw), ("fault", []))
    same("cut short", table.frame(bytes(request("10.0.0.2", mac(2)))[:40]), ("fault", []))
    same("size", table.ask("size"), "0")
    table.close()


def retries():  # A4
    table = Table()
    table.resolve("10.0.0.66")
    sent = table.run(10_000)
    same("requests for a dead neighbour", len(sent), 3)
    for (before, _), (after, _) in zip(sent, sent[1:]):
        same("a second apart at least", after - before >= 1000, True)
    same("request", fields(sent[0][1]), (US_MAC, ALL, 1, 0x800, 6, 4, 1, US_MAC, US, "00:00:00:00:00:00", "10.0.0.66"))
    same("failed", table.state("10.0.0.66")[0], "failed")
    table.close()


def probing():  # A5
    table = Table(how="probe")
    sent = table.run(20_000, 10)
    same("three probes, two announcements", [(f[ARP].psrc, f[ARP].pdst) for _, f in sent],
         [("0.0.0.0", US)] * 3 + [(US, US)] * 2)
    same("bound", table.ask("locals").strip(), "bound")
    same("a probe for another is not learned", table.frame(request("0.0.0.0", mac(2), "10.0.0.9")), ("probe", []))
    event, frames = table.frame(request("0.0.0.0", mac(2)))
    same("a probe for ours is answered", (event, len(frames)), ("probe", 1))
    same("answer to a probe", (frames[0].dst, frames[0][ARP].op, frames[0][ARP].pdst), (mac(2), 2, "0.0.0.0"))
    same("nothing entered", table.ask("size"), "0")
    for _ in range(3):
        same("conflict", table.frame(request(US, mac(66), US))[0], "conflict")
    sent = table.run(3000)
    same("defended once", [(f[ARP].psrc, f[ARP].pdst, f.dst) for _, f in sent], [(US, US, ALL)])
    table.close()
    taken = Table(how="probe")
    taken.run(500, 10)
    same("somebody answers a probe", taken.frame(reply(US, mac(66), target="0.0.0.0"))[0], "conflict")
    same("conflict", taken.ask("locals").strip(), "conflict")
    same("not ours to answer for", taken.frame(request("10.0.0.2", mac(2)))[1], [])
    table = Table()
    table.frame(request("10.0.0.2", mac(2)))
    same("gratuitous", table.frame(request("10.0.0.2", mac(3), "10.0.0.2"))[0], "changed")
    same("gratuitous of a stranger", table.frame(request("10.0.0.3", mac(3), "10.0.0.3"))[0], "ignored")
    table.close()
    taken.close()


def flood():  # A6
    table = Table(capacity=1024, prefix=8)
    for number in range(2, 34):
        same("static", table.ask("static", 0, f"10.0.0.{number}", mac(number), table.now), "added")
    table.resolve("10.0.1.1")
    table.frame(reply("10.0.1.1", mac(101)))
    same("group sender", table.frame(request("10.0.0.50", "01:00:00:00:00:05"))[0], "bad_sender")
    same("broadcast sender", table.frame(request("10.0.0.50", ALL))[0], "bad_sender")
    same("off the subnet", table.frame(request("11.0.0.50", mac(50)))[0], "off_subnet")
    template = bytearray(bytes(request("10.1.0.0", mac(0))))
    for number in range(65_536):  # addresses and MACs as scapy's, bytes patched for speed
        template[30:32] = number.to_bytes(2, "big")
        template[10:12] = template[26:28] = number.to_bytes(2, "big")
        event = table.ask("frame", table.now, template.hex()).split(" ")[0]
        if event != "learned":
            same(f"flood {number}", event, "learned")
            break
        if number % 4096 == 0:
            table.poll(500)
            table.ask("resolve", 0, "10.0.1.1", table.now)  # in use
    same("size", table.ask("size"), "1024")
    for number in range(2, 34):
        same("static stays", table.state(f"10.0.0.{number}"), ["static", mac(number)])
    same("in use stays", table.state("10.0.1.1")[1], mac(101))
    table.close()


def dead_and_alive():  # A6
    table = Table(prefix=16)
    for number in range(200):
        table.resolve(f"10.0.9.{number}")
    table.run(300)
    table.resolve("10.0.0.2")
    asked = [frame for frame in table.poll() if frame[ARP].pdst == "10.0.0.2"]
    same("asked at once", len(asked), 1)
    same("answered", table.frame(reply("10.0.0.2", mac(2)))[0], "changed")
    same("reachable", table.state("10.0.0.2"), ["reachable", mac(2)])
    table.close()


def vlans():
    table = Table()
    same("local", table.ask("local", 100, f"{US}/24", "02:00:00:00:00:64", "now", table.now), "added")
    tagged = Ether(src=mac(2), dst=ALL) / Dot1Q(vlan=100) / ARP(op=1, hwsrc=mac(2), psrc="10.0.0.2", pdst=US)
    event, frames = table.frame(tagged)
    same("tagged", (event, len(frames)), ("learned", 1))
    same("tag of the reply", (frames[0][Dot1Q].vlan, frames[0][ARP].hwsrc), (100, "02:00:00:00:00:64"))
    same("apart", (table.state("10.0.0.2", 100)[0], table.state("10.0.0.2", 0)[0]), ("stale", "none"))
    table.close()


finish(merge_and_create, faults, retries, probing, flood, dead_and_alive, vlans)
