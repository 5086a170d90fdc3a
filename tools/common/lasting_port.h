// A port of a program that goes on when the device goes away, and opens it again when it is back.
#pragma once

#include <optional>
#include <string>

#include "efio/port.h"
#include "tools/common/port_report.h"

namespace efio::tools {

class LastingPort {
 public:
  explicit LastingPort(std::string uri) : uri_(std::move(uri)) {}

  // Errors: those of Port::open; the port is then as it was. In two steps, where others look at this meanwhile: the
  // first may take as long as an open may.
  Result<void> open();
  Result<Port> open_anew() const { return Port::open(uri_); }
  void install(Port port);
  // Errors: those of closing.
  Result<void> close();

  bool is_open() const noexcept { return is_open_; }
  // Of one that is open: whether a queue has failed, and how.
  bool has_failed() noexcept;
  std::optional<Error> failure();

  Port& port() noexcept { return *port_; }  // once opened
  const Port& port() const noexcept { return *port_; }
  const std::string& uri() const noexcept { return uri_; }
  std::uint64_t openings() const noexcept { return openings_; }

  // Over all openings.
  PortStats stats() const noexcept;
  Json json() const;
  std::string text() const { return port_text(*port_, before_); }

 private:
  std::string uri_;
  std::optional<Port> port_;
  bool is_open_ = false;
  PortStats before_;  // of earlier openings
  std::uint64_t openings_ = 0;
};

}  // namespace efio::tools
