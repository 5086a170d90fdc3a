// What the XDP program (xdp_kernel.bpf.c, C) and the library agree on.
#pragma once

enum { EFIO_XDP_QUEUES = 1024 };  // of a device; those beyond are the host's
