// Who had which outside port, and when (RFC 6888, REQ-12): a JSON object a line. The thread of packets leaves events in
// a ring; a thread of the log's own writes them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "efio/descriptor.h"
#include "efio/result.h"
#include "efnet/nat44/options.h"

namespace efio::gate {

struct MappingLogOptions {
  std::string file;
  std::uint64_t rotate = 0;  // bytes after which FILE becomes FILE.1, that FILE.2, …; 0: never
  std::size_t keep = 5;      // of those with a number
};

class MappingLog {
 public:
  // Appends to the file. Errors: those of the system.
  static Result<std::unique_ptr<MappingLog>> open(MappingLogOptions options);
  ~MappingLog();  // writes what is left
  MappingLog(const MappingLog&) = delete;
  MappingLog& operator=(const MappingLog&) = delete;

  // The thread of packets; never waits. An event for which there is no room is counted as lost. What is at time 0, the
  // forwards that the file names, is not told.
  void add(const efnet::NatEvent& event) noexcept;
  // Any thread.
  std::uint64_t written() const noexcept { return written_.load(std::memory_order_relaxed); }
  std::uint64_t lost() const noexcept {
    return no_room_.load(std::memory_order_relaxed) + unwritten_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr std::uint32_t places = 1 << 16;

  MappingLog(MappingLogOptions options, Fd file, std::uint64_t size);
  void write_on(const std::stop_token& stop);
  bool write_some();
  void flush(std::string& text, std::uint64_t lines);
  void rotate();

  MappingLogOptions options_;
  Fd file_;
  std::uint64_t size_;
  std::vector<efnet::NatEvent> ring_;
  alignas(64) std::atomic<std::uint32_t> head_{0};  // the next to be written
  alignas(64) std::atomic<std::uint32_t> tail_{0};  // behind the newest
  std::atomic<std::uint64_t> written_{0}, no_room_{0}, unwritten_{0};
  std::jthread thread_;
};

// "2026-11-25T10:00:00Z", with a fraction or without, or seconds since 1970; ns since 1970.
std::optional<std::int64_t> parse_instant(std::string_view text) noexcept;

// Whose port it was at that instant, by FILE and what was rotated away of it: the line that says so, or nothing.
// Errors: those of the system.
Result<std::optional<std::string>> find_owner(const std::string& file, efnet::IpProtocol protocol,
                                              efnet::Ipv4Address address, std::uint16_t port, std::int64_t at);

}  // namespace efio::gate
