"""scapy speaks neighbour discovery with an NdpTable: the dialogues of RFC 4861 and 4862, and what is to be refused."""
from _neighbours import Ether, Table as AnyTable, finish, mac, same
from scapy.all import (Dot1Q, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6,
                       in6_chksum, in6_getnsma, in6_getnsmac, inet_ntop, inet_pton, socket)

US, US_MAC = "2001:db8::1", "02:00:00:00:00:01"
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"


def ip(number):
    return f"2001:db8::{number:x}"


def group(address):
    """The solicited-node group of an address, and its MAC, as scapy makes them."""
    number = in6_getnsma(inet_pton(socket.AF_INET6, address))
    return inet_ntop(socket.AF_INET6, number), in6_getnsmac(number)


class Table(AnyTable):
    def __init__(self, how="now", protocol="ndp", capacity=1024, prefix=64):
        super().__init__(protocol, US, US_MAC, how, prefix, capacity)


def solicitation(source, source_mac, target=US, option=True, hop_limit=255, to=None):
    dst, dst_mac = to or group(target)
    packet = Ether(src=source_mac, dst=dst_mac) / IPv6(src=source, dst=dst, hlim=hop_limit) / ICMPv6ND_NS(tgt=target)
    return packet / ICMPv6NDOptSrcLLAddr(lladdr=source_mac) if option else packet


def advertisement(target, target_mac, solicited=1, override=1, source=None, to=(US, US_MAC), option=True, hop_limit=255):
    packet = Ether(src=target_mac, dst=to[1]) / IPv6(src=source or target, dst=to[0], hlim=hop_limit)
    packet /= ICMPv6ND_NA(tgt=target, S=solicited, O=override, R=0)
    return packet / ICMPv6NDOptDstLLAddr(lladdr=target_mac) if option else packet


def judge(what, frame):
    """Checksum and lengths are those that scapy would have put there."""
    again = frame.copy()
    del again[IPv6].plen
    del again.getlayer(IPv6).payload.cksum
    same(f"{what}: as scapy makes it", bytes(again), bytes(frame))
    same(f"{what}: hop limit", frame[IPv6].hlim, 255)


def asked(frame):
    judge("solicitation", frame)
    option = frame[ICMPv6NDOptSrcLLAddr].lladdr if ICMPv6NDOptSrcLLAddr in frame else None
    return frame.src, frame.dst, frame[IPv6].src, frame[IPv6].dst, frame[ICMPv6ND_NS].tgt, option


def told(frame):
    judge("advertisement", frame)
    answer = frame[ICMPv6ND_NA]
    return (frame.src, frame.dst, frame[IPv6].src, frame[IPv6].dst, answer.tgt, answer.R, answer.S, answer.O,
            frame[ICMPv6NDOptDstLLAddr].lladdr)


def solicited():
    table = Table()
    same("announced once", [told(frame) for _, frame in table.announced],
         [(US_MAC, ALL_NODES_MAC, US, ALL_NODES, US, 0, 0, 1, US_MAC)])
    event, frames = table.frame(solicitation(ip(2), mac(2)))
    same("a question for us", (event, len(frames)), ("learned", 1))
    same("answer", told(frames[0]), (US_MAC, mac(2), US, ip(2), US, 0, 1, 1, US_MAC))
    same("learned, not confirmed", table.state(ip(2)), ["stale", mac(2)])
    same("again", table.frame(solicitation(ip(2), mac(2)))[0], "known")
    same("from another MAC", table.frame(solicitation(ip(2), mac(22)))[0], "changed")
    event, frames = table.frame(solicitation(ip(2), mac(22), to=(US, US_MAC)))
    same("by unicast", (event, len(frames)), ("known", 1))
    event, frames = table.frame(solicitation(ip(3), mac(3), option=False, to=(US, US_MAC)))
    same("without its MAC: answered, not learned", (event, frames[0].dst, table.state(ip(3))[0]), ("ignored", mac(3), "none"))
    same("for another", table.frame(solicitation(ip(4), mac(4), ip(9))), ("ignored", []))
    same("size", table.ask("size"), "1")
    table.close()
    router = Table(protocol="ndp-router")
    same("a router says so", router.frame(solicitation(ip(2), mac(2)))[1][0][ICMPv6ND_NA].R, 1)
    same("also unasked", [frame[ICMPv6ND_NA].R for _, frame in router.announced], [1])
    router.close()


def resolves():
    table = Table()
    same("asked for", table.resolve(ip(2)), "incomplete")
    sent = table.poll()
    same("question", [asked(frame) for frame in sent], [(US_MAC, group(ip(2))[1], US, group(ip(2))[0], ip(2), US_MAC)])
    same("an answer", table.frame(advertisement(ip(2), mac(2)))[0], "changed")
    same("reachable", table.state(ip(2)), ["reachable", mac(2)])
    table.poll(1000)
    table.resolve(ip(2))
    refresh = table.run(40_000)
    same("in use: asked again by unicast", [asked(frame)[1:4] for _, frame in refresh[:1]], [(mac(2), US, ip(2))])
    same("an unasked answer of a stranger", table.frame(advertisement(ip(5), mac(5)))[0], "ignored")
    same("size", table.ask("size"), "1")
    table.close()


def refused():
    """RFC 4861, 7.1.1 and 7.1.2."""
    table = Table()
    table.resolve(ip(2))
    table.poll()

    def bad(what, frame):
        same(what, table.frame(frame), ("invalid", []))

    for hop_limit in (254, 64, 1, 0):
        bad(f"solicitation, hop limit {hop_limit}", solicitation(ip(3), mac(3), hop_limit=hop_limit))
        bad(f"advertisement, hop limit {hop_limit}", advertisement(ip(2), mac(2), hop_limit=hop_limit))
    for make in (lambda: solicitation(ip(3), mac(3)), lambda: advertisement(ip(2), mac(2))):
        frame = make()
        frame.getlayer(IPv6).payload.cksum = 1
        bad("checksum", frame)
        frame = make()
        frame.getlayer(IPv6).payload.code = 1
        bad("code", frame)
        frame = make()
        frame.getlayer(IPv6).payload.tgt = "ff02::2"
        bad("a group as target", frame)
        frame = make()
        frame.lastlayer().len = 0
        bad("an option of length 0", frame)
        frame = make()
        frame.lastlayer().len = 2
        bad("an option that is cut short", frame)
        frame = make()
        frame.lastlayer().lladdr = "01:00:5e:00:00:01"
        bad("a group's MAC", frame)
    for size in (4, 8, 12, 23):
        whole = solicitation(ip(3), mac(3))
        cut = bytearray(bytes(whole[ICMPv6ND_NS])[:size])
        cut[2:4] = b"\0\0"
        below = IPv6(src=ip(3), dst=whole[IPv6].dst, hlim=255, nh=58)
        cut[2:4] = in6_chksum(58, below, bytes(cut)).to_bytes(2, "big")
        bad(f"cut to {size} bytes", Ether(src=mac(3), dst=whole.dst) / below / bytes(cut))
    bad("from nobody, with a MAC", solicitation("::", mac(3)))
    bad("from nobody, not to the group", solicitation("::", mac(3), option=False, to=(US, US_MAC)))
    bad("to all, and claims to be solicited", advertisement(ip(2), mac(2), to=(ALL_NODES, ALL_NODES_MAC)))
    same("nothing learned", (table.ask("size"), table.state(ip(2))[0]), ("1", "incomplete"))
    same("the right one", table.frame(advertisement(ip(2), mac(2)))[0], "changed")
    table.close()


def duplicates():
    table = Table(how="probe")
    sent = table.run(10_000, 10)
    same("one probe, one announcement", [ICMPv6ND_NS in frame for _, frame in sent], [True, False])
    same("probe", asked(sent[0][1]), (US_MAC, group(US)[1], "::", group(US)[0], US, None))
    same("a second between", sent[1][0] - sent[0][0] >= 1000, True)
    same("ours", table.ask("locals").strip(), "preferred")
    event, frames = table.frame(solicitation("::", mac(2), option=False))
    same("a probe for ours", (event, len(frames)), ("duplicate", 1))
    same("all are told", told(frames[0]), (US_MAC, ALL_NODES_MAC, US, ALL_NODES, US, 0, 0, 1, US_MAC))
    same("one of our own", table.frame(solicitation("::", US_MAC, option=False)), ("own", []))
    same("nothing entered", table.ask("size"), "0")
    same("somebody else announces it", table.frame(advertisement(US, mac(6), 0, 1, to=(ALL_NODES, ALL_NODES_MAC)))[0],
         "duplicate")
    table.close()
    for what, frame in (("somebody has it", advertisement(US, mac(6), 0, 1, to=(ALL_NODES, ALL_NODES_MAC))),
                        ("somebody probes for it too", solicitation("::", mac(6), option=False))):
        table = Table(how="probe")
        table.poll(10)
        same(f"{what}: not ours yet", table.frame(solicitation(ip(2), mac(2)))[1], [])
        same(what, table.frame(frame), ("duplicate", []))
        same(f"{what}: not taken", (len(table.run(10_000, 100)), table.ask("locals").strip()), (0, "duplicate"))
        same(f"{what}: not answered for", table.frame(solicitation(ip(2), mac(2)))[1], [])
        table.close()


def unsolicited():
    """RFC 4861, 7.2.5 and appendix C: what the flags of an advertisement may do."""
    def known():
        table = Table()
        table.resolve(ip(2))
        table.poll()
        table.frame(advertisement(ip(2), mac(2)))
        return table

    everybody = (ALL_NODES, ALL_NODES_MAC)
    for what, frame, event, state in (
            ("another MAC, override", advertisement(ip(2), mac(3), 0, 1, to=everybody), "changed", ["stale", mac(3)]),
            ("another MAC, no override", advertisement(ip(2), mac(3), 0, 0, to=everybody), "ignored", ["stale", mac(2)]),
            ("solicited, no override", advertisement(ip(2), mac(3), 1, 0), "ignored", ["stale", mac(2)]),
            ("solicited, override", advertisement(ip(2), mac(3), 1, 1), "changed", ["reachable", mac(3)]),
            ("the same MAC", advertisement(ip(2), mac(2), 0, 1, to=everybody), "known", ["reachable", mac(2)]),
            ("no MAC, solicited", advertisement(ip(2), mac(3), 1, 0, option=False), "known", ["reachable", mac(2)])):
        table = known()
        same(what, table.frame(frame)[0], event)
        same(f"{what}: state", table.state(ip(2)), state)
        table.close()
    table = Table()
    table.resolve(ip(2))
    table.poll()
    same("asked, and told unasked", table.frame(advertisement(ip(2), mac(2), 0, 1, to=everybody))[0], "changed")
    same("not confirmed", table.state(ip(2)), ["stale", mac(2)])
    same("static", table.ask("static", 0, ip(7), mac(7), table.now), "added")
    same("static stays", (table.frame(advertisement(ip(7), mac(8), 1, 1))[0], table.state(ip(7))),
         ("fixed", ["static", mac(7)]))
    table.close()


def by_target():
    """An answer is for its target, whoever sent it: a proxy, or a host from another address of its own."""
    table = Table()
    table.resolve(ip(2))
    table.poll()
    same("from elsewhere", table.frame(advertisement(ip(2), mac(9), source="fe80::9"))[0], "changed")
    same("the target's", table.state(ip(2)), ["reachable", mac(9)])
    same("not the sender's", table.state("fe80::9")[0], "none")
    table.resolve(ip(3))
    table.poll()
    same("about somebody else", table.frame(advertisement(ip(4), mac(4), source=ip(3)))[0], "ignored")
    same("still waits", table.state(ip(3))[0], "incomplete")
    table.close()


def dead_and_alive():
    table = Table()
    for number in range(200):
        table.resolve(ip(0x900 + number))
    sent = table.run(300)
    same("each asked for", len({frame[ICMPv6ND_NS].tgt for _, frame in sent}), 200)
    table.resolve(ip(2))
    same("asked at once", [frame[ICMPv6ND_NS].tgt for frame in table.poll()], [ip(2)])
    same("answered", table.frame(advertisement(ip(2), mac(2)))[0], "changed")
    same("reachable", table.state(ip(2)), ["reachable", mac(2)])
    times = [at for at, frame in sent + table.run(10_000) if frame[ICMPv6ND_NS].tgt == ip(0x900)]
    same("three questions", len(times), 3)
    same("a second apart", all(after - before >= 1000 for before, after in zip(times, times[1:])), True)
    same("failed", table.state(ip(0x900))[0], "failed")
    table.close()


def vlans():
    table = Table()
    same("local", table.ask("local", 100, f"{US}/64", "02:00:00:00:00:64", "now", table.now), "added")
    plain = solicitation(ip(2), mac(2))
    tagged = Ether(src=plain.src, dst=plain.dst) / Dot1Q(vlan=100) / plain.payload
    event, frames = table.frame(tagged)
    same("tagged", (event, len(frames)), ("learned", 1))
    same("tag of the answer", (frames[0][Dot1Q].vlan, frames[0][ICMPv6NDOptDstLLAddr].lladdr), (100, "02:00:00:00:00:64"))
    same("apart", (table.state(ip(2), 100)[0], table.state(ip(2), 0)[0]), ("stale", "none"))
    table.close()


def flood():
    table = Table(capacity=256)
    same("static", table.ask("static", 0, ip(7), mac(7), table.now), "added")
    template = bytearray(bytes(solicitation("2001:db8::1:0", mac(0))))
    source, checksum, option = 14 + 8 + 14, 14 + 40 + 2, len(template) - 2
    before = int.from_bytes(template[checksum:checksum + 2], "big")
    for number in range(4096):  # the address and the MAC count on; the checksum as RFC 1624 has it
        for at in (source, option, 10):
            template[at:at + 2] = number.to_bytes(2, "big")
        total = (~before & 0xFFFF) + 2 * number
        total = (total & 0xFFFF) + (total >> 16)
        template[checksum:checksum + 2] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
        event = table.ask("frame", table.now, template.hex()).split(" ")[0]
        if event != "learned":
            same(f"flood {number}", event, "learned")
            break
    same("size", table.ask("size"), "256")
    same("static stays", table.state(ip(7)), ["static", mac(7)])
    table.close()


finish(solicited, resolves, refused, duplicates, unsolicited, by_target, dead_and_alive, vlans, flood)
