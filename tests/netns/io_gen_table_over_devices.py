"""`io_gen table --tx A --rx B`: every cell is filled, by frames that the kernel has seen, and a second process's rate stands
beside ours where it does the other half. Over packet: and xdp:, whose rings are too short to outlast every pause of a
receiver that others share its processor with."""
import json
import os
import subprocess

from namespaces import veth_pair
from skip import require_root

io_gen = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")

require_root()
with veth_pair() as (a, b):
    # Both ends in one namespace: one process opens both.
    subprocess.run(["ip", "-n", b.name, "link", "set", b.device, "netns", a.name], check=True)
    a.run("sysctl", "-q", f"net.ipv6.conf.{b.device}.disable_ipv6=1", check=True)
    a.run("ip", "link", "set", b.device, "up", check=True)
    for engine in ("packet", "xdp"):
        words = ["table", "--tx", f"{engine}:{a.device}", "--rx", f"{engine}:{b.device}", "--duration", "200ms"]
        before = a.count("tx")
        ended = a.run(io_gen, *words, "--json")
        assert ended.returncode == 0, ended
        told = json.loads(ended.stdout)
        rows = told["table"]
        assert len(rows) == 8, ended.stdout
        checked = 0
        for row in rows:
            assert row["pps"] > 1000 and row["packets"] > 0, row
            sequence = row["sequence"]
            assert sequence["duplicated"] == sequence["reordered"] == row["checksums"]["wrong"] == 0, row
            assert row["clean"] or engine == "xdp" and row["row"] != "both_one_thread" and sequence["lost"] > 0, row
            # With a second process: at its own rate, which is the kernel's to decide.
            assert ("other_process_pps" in row) == (row["row"] in ("rx_only", "tx_only")), row
            checked += row["packets"]
        assert a.count("tx") - before >= checked, "more frames counted than the kernel sent"

    words = ["table", "--tx", f"packet:{a.device}", "--rx", f"packet:{b.device}", "--duration", "200ms"]
    text = a.run(io_gen, *words)
    assert text.returncode == 0 and "both, two threads" in text.stdout and "(" in text.stdout, text
    gone = a.run(io_gen, "table", "--tx", f"packet:{a.device}", "--rx", "packet:nosuch")
    assert gone.returncode == 3 and gone.stderr.count("\n") == 1 and "nosuch" in gone.stderr, gone
