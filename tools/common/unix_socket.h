// Sockets of programs that others on this machine speak to, by a path.
#pragma once

#include <string>

#include "efio/descriptor.h"
#include "efio/result.h"

namespace efio::tools {

// Listens at `path`, which gets these permissions (0666: everybody may connect). `type`: SOCK_STREAM or SOCK_SEQPACKET.
// A socket that a program before left behind answers nobody, and is removed. Errors: usage (the path is too long),
// device (somebody listens there), or the system's.
Result<Fd> listen_at(const std::string& path, int type, unsigned permissions);

// Errors: those of the system.
Result<Fd> connect_to(const std::string& path, int type);

}  // namespace efio::tools
