"""`io_gen table` over PF_RING's interface: the fake library that the tests build, on a veth pair."""
import json
import os
import subprocess

from namespaces import veth_pair
from skip import require_root

io_gen = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")
library = os.path.join(os.environ["EFIO_BUILD_DIR"], "tests", "libfake_pfring.so")

require_root()
with veth_pair() as (a, b):
    subprocess.run(["ip", "-n", b.name, "link", "set", b.device, "netns", a.name], check=True)
    a.run("sysctl", "-q", f"net.ipv6.conf.{b.device}.disable_ipv6=1", check=True)
    a.run("ip", "link", "set", b.device, "up", check=True)
    ended = a.run(io_gen, "table", "--tx", f"pfring:{a.device}?library={library}", "--rx",
                  f"pfring:{b.device}?library={library}", "--duration", "300ms", "--json")
    assert ended.returncode == 0, ended
    rows = json.loads(ended.stdout)["table"]
    assert len(rows) == 8, ended.stdout
    for row in rows:
        assert row["pps"] > 1000 and row["packets"] > 0, row
