"""xdp: by a user with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and no more: receives, sends, steers; with one of them less the
error says what is missing, and nothing is left behind."""
import os
import shutil
import tempfile

from namespaces import veth_pair, wait_until
from skip import require_program, require_root

require_root()
require_program("setpriv")

from _receiver import Receiver, Refused

NOBODY = 65534
NEEDED = ("net_raw", "net_admin", "bpf")
work = tempfile.TemporaryDirectory(prefix="efio_privileges_")
os.chmod(work.name, 0o755)
for name in ("io_gen", "xdp_take"):  # the build may lie where nobody may look
    shutil.copy(os.path.join(os.environ["EFIO_BIN_DIR"], name), work.name)
io_gen, xdp_take = (os.path.join(work.name, name) for name in ("io_gen", "xdp_take"))


def with_capabilities(names):
    plus = "".join(f",+{name}" for name in names)
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", f"--inh-caps=-all{plus}",
            f"--ambient-caps=-all{plus}", f"--bounding-set=-all{plus}")


def link(namespace):
    return namespace.run("ip", "-d", "link", "show", namespace.device).stdout


with veth_pair() as (a, b):
    for end in (a, b):
        end.run("ethtool", "-K", end.device, "tx", "off", "tso", "off", "gso", "off", check=True)
    for options in ("attach=native", "attach=generic", "jumbo=on", "time=hardware"):
        port = Receiver(a, f"xdp:{a.device}?take=udp:4000-5000&{options}", with_capabilities(NEEDED), xdp_take)
        for destination in (4500, 80):
            sent = b.run(io_gen, "tx", f"packet:{b.device}", "--dport", destination, "--count", 100, "--dst-mac", "02:00:00:00:00:09")
            assert sent.returncode == 0, sent.stderr
        assert len(port.frames(101, 1)) == 100, options
        assert port.take("tcp") == "ok"
        port.close()
    before = b.count("rx")
    sent = a.run(*with_capabilities(NEEDED), io_gen, "tx", f"xdp:{a.device}", "--count", 100)
    assert sent.returncode == 0, sent.stderr
    wait_until(lambda: b.count("rx") - before == 100, "100 frames sent")

    for missing in NEEDED:
        try:
            Receiver(a, f"xdp:{a.device}", with_capabilities([name for name in NEEDED if name != missing]), xdp_take).close()
            raise AssertionError(f"opened without CAP_{missing.upper()}")
        except Refused as error:
            assert f"CAP_{missing.upper()}" in str(error) and "setcap cap_net_raw,cap_net_admin,cap_bpf" in str(error), error
        assert " xdp" not in link(a) and "promiscuity 0" in link(a)
