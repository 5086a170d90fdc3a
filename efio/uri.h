// A port's name: scheme:name?key=value&key=value
//
//   packet:eth0?fanout=7      eth0 (no scheme: auto:)      sim:loss=0.001&seed=7@packet:eth0?promisc=on
//   vale0:a (a netmap name)   pcap:/tmp/a%3Fb.pcap (%XX stands for a byte in the name or a value)
//   tap:tap%d (stays %d, as no second hexadecimal digit follows)
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"

namespace efio {

class EFIO_EXPORT Uri {
 public:
  // Errors: usage (empty, no name, a key twice, a bad %XX, longer than 4096 bytes).
  static Result<Uri> parse(std::string_view text);

  const std::string& text() const noexcept { return text_; }
  const std::string& scheme() const noexcept { return scheme_; }
  const std::string& name() const noexcept { return name_; }
  const std::string& inner() const noexcept { return inner_; }  // of `sim:`: the URI that it wraps
  const std::vector<std::pair<std::string, std::string>>& options() const noexcept { return options_; }

  // Options, each with its default. The first bad value is remembered and told by finish(), so that an engine reads all
  // of them in a row and checks once.
  bool has(std::string_view key);
  std::string text_option(std::string_view key, std::string_view otherwise = {});
  std::uint64_t number(std::string_view key, std::uint64_t otherwise, std::uint64_t least, std::uint64_t most);
  double fraction(std::string_view key, double otherwise, double least, double most);
  std::chrono::nanoseconds duration(std::string_view key, std::chrono::nanoseconds otherwise,
                                    std::chrono::nanoseconds most);
  bool flag(std::string_view key, bool otherwise);  // on|off
  std::string choice(std::string_view key, std::initializer_list<std::string_view> values);  // the first is the default

  // The first bad value, or the first option that nobody asked for, as a usage error that names what would be right.
  Result<void> finish() const;

 private:
  std::optional<std::string_view> find(std::string_view key);
  void refuse(std::string_view key, std::string_view value, std::string expected);

  std::string text_, scheme_, name_, inner_;
  std::vector<std::pair<std::string, std::string>> options_;
  std::vector<std::string> known_;
  std::optional<Error> error_;
};

}  // namespace efio
