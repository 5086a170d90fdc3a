// Any text as a port's name: parsing neither crashes nor loses bytes, and every option can be read as anything.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "efio/text.h"
#include "efio/uri.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)efio::parse_count(text);
  (void)efio::parse_duration(text);
  (void)efio::parse_fraction(text);
  auto uri = efio::Uri::parse(text);
  if (!uri) {
    if (uri.error().message().empty() || uri.error().message().find('\n') != std::string::npos) std::abort();
    return 0;
  }
  if (uri->text() != text || uri->name().empty() || uri->name().find('\0') != std::string::npos) std::abort();
  const auto options = uri->options();
  if (!options.empty() && uri->finish()) std::abort();  // nobody has asked for them yet
  for (const auto& [key, value] : options) {
    (void)uri->number(key, 3, 1, 1000);
    (void)uri->fraction(key, 0, 0, 1);
    (void)uri->duration(key, {}, std::chrono::seconds(60));
    (void)uri->flag(key, false);
    (void)uri->choice(key, {"auto", "native"});
  }
  (void)uri->finish();
  return 0;
}
