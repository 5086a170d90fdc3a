// A configuration file of any bytes is read, or refused in one line that names a line of it.
#include <cstdlib>
#include <string>

#include "tools/common/toml_file.h"

namespace {

using efio::tools::TomlTable;

void read_all(TomlTable table, int depth) {
  for (const auto& key : table.keys()) {
    table.text(key);
    table.integer(key, 0, -100, 100);
    table.number(key, 0, 0, 1);
    table.count(key, 0, 0, 1000);
    table.duration(key, {}, {}, std::chrono::seconds(1000));
    table.texts(key);
    if (depth == 0) continue;
    read_all(table.table(key), depth - 1);
    for (auto& element : table.tables(key)) read_all(element, depth - 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto file = efio::tools::TomlFile::parse(text, "f");
  efio::Result<void> outcome;
  if (!file) {
    outcome = std::unexpected(file.error());
  } else {
    if (size % 2 == 0) read_all(file->root(), 3);
    outcome = file->finish();
  }
  if (!outcome) {
    const auto message = outcome.error().message();
    if (!message.starts_with("f:") || message.find('\n') != std::string::npos) std::abort();
  }
  return 0;
}
