// The command line of io_gen, a word a line: whatever it says, it is taken or refused in one line.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tools/io_gen/options.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  [[maybe_unused]] static const bool quiet = std::freopen("/dev/null", "w", stdout) != nullptr;  // of help texts
  std::vector<std::string> words = {"io_gen", ""};
  for (const char c : std::string(reinterpret_cast<const char*>(data), size)) {
    if (c == '\n')
      words.emplace_back();
    else if (c != '\0')
      words.back() += c;
  }
  std::vector<const char*> arguments;
  for (const auto& word : words) arguments.push_back(word.c_str());
  const auto options = efio::io_gen::parse_options(static_cast<int>(arguments.size()), arguments.data());
  if (!options) {
    const auto message = options.error().message();
    if (message.empty() || message.find('\n') != std::string::npos) std::abort();
  } else if (*options && (*options)->command != efio::io_gen::Command::rx) {
    const auto& traffic = (*options)->traffic;
    if (traffic.sizes.lengths().empty() || traffic.sizes.smallest() < traffic.shortest()) std::abort();
  }
  return 0;
}
