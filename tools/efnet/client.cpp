#include "tools/efnet/client.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <vector>

#include "efio/fail.h"
#include "tools/common/exit_code.h"
#include "tools/common/unix_socket.h"

namespace efio::gate {

namespace {

using tools::Json;

std::string cell(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return fmt::format("{:.1f}", value.get<double>());
  return value.dump();
}

void print_nested(const Json& value, const std::string& path) {
  if (!value.is_object()) {
    fmt::print("{} {}\n", path, cell(value));
    return;
  }
  for (const auto& [key, inner] : value.items()) print_nested(inner, path.empty() ? key : path + "." + key);
}

// Rows of one kind, with a line of their keys above. The first hundred say how wide the columns are.
class Table {
 public:
  void add(const Json& row) {
    if (std::ranges::any_of(row, [](const Json& value) { return value.is_object(); })) {
      print_nested(row, "");
      return;
    }
    if (keys_.empty())
      for (const auto& [key, value] : row.items()) keys_.push_back(key);
    std::vector<std::string> cells;
    for (const auto& key : keys_) cells.push_back(row.contains(key) ? cell(row[key]) : "");
    if (shown_) return print(cells);
    waiting_.push_back(std::move(cells));
    if (waiting_.size() == 100) show();
  }
  void show() {
    if (shown_ || keys_.empty()) return;
    shown_ = true;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      std::size_t width = keys_[i].size();
      for (const auto& cells : waiting_) width = std::max(width, cells[i].size());
      widths_.push_back(width);
    }
    print(keys_);
    for (const auto& cells : waiting_) print(cells);
  }

 private:
  void print(const std::vector<std::string>& cells) const {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) line += fmt::format("{:<{}}  ", cells[i], widths_[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }

  std::vector<std::string> keys_;
  std::vector<std::size_t> widths_;
  std::vector<std::vector<std::string>> waiting_;
  bool shown_ = false;
};

// The next line of the socket, without its end; nothing when it is closed.
class Lines {
 public:
  explicit Lines(const Fd& socket) : socket_(socket) {}
  std::optional<std::string> next() {
    for (;;) {
      if (const auto end = pending_.find('\n', at_); end != std::string::npos) {
        auto line = pending_.substr(at_, end - at_);
        at_ = end + 1;
        return line;
      }
      pending_.erase(0, at_);
      at_ = 0;
      char part[65536];
      const auto n = ::recv(socket_.get(), part, sizeof part, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return std::nullopt;
      pending_.append(part, static_cast<std::size_t>(n));
    }
  }

 private:
  const Fd& socket_;
  std::string pending_;
  std::size_t at_ = 0;
};

}  // namespace

int ask(const std::string& path, const Json& request, bool json) {
  auto socket = tools::connect_to(path, SOCK_STREAM);
  if (!socket) {
    socket.error().hint = "does a gateway run? --control names its socket";
    return tools::complain("efnet", socket.error());
  }
  const std::string text = request.dump() + "\n";
  if (::send(socket->get(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()))
    return tools::complain("efnet", fail(errno, "ask {}", path).error());
  Lines lines(*socket);
  Table table;
  while (const auto line = lines.next()) {
    const Json row = Json::parse(*line, nullptr, false);
    if (!row.is_object()) continue;
    if (row.contains("error"))
      return tools::complain("efnet", fail(Error::Kind::usage, "the gateway", "{}", row.value("error", ""))
                                          .hint("{}", row.value("hint", ""))
                                          .error());
    if (row.value("done", false)) {
      table.show();
      if (auto written = tools::finish_output(); !written) return tools::complain("efnet", written.error());
      return tools::exit_done;
    }
    if (json)
      fmt::print("{}\n", *line);
    else
      table.add(row);
  }
  return tools::complain("efnet", fail(Error::Kind::device, "ask " + path, "the gateway has ended").error());
}

}  // namespace efio::gate
