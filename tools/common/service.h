// What a service tells systemd (sd_notify(3)): nothing where nobody asked to be told (NOTIFY_SOCKET).
#pragma once

#include <string_view>

namespace efio::tools {

// "READY=1", "RELOADING=1", "STOPPING=1", "STATUS=…", several with a line break between. What finds no listener is
// lost.
void notify_service_manager(std::string_view state) noexcept;

}  // namespace efio::tools
