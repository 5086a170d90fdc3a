// Writing capture files: classic pcap with nanoseconds, or pcapng with several interfaces and comments on packets.
//
//   auto writer = CaptureWriter::create("dropped.pcapng", {.interfaces = {{"eth0"}, {"eth1"}}});
//   writer->append(slot.bytes(), {.time = slot.time, .interface = 1, .comment = "no route"});
//   if (auto done = writer->close(); !done) …
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"

namespace efio {

// One thread at a time. Not for use after a move.
class EFIO_EXPORT CaptureWriter {
 public:
  enum class Format : std::uint8_t { pcap, pcapng };

  struct Interface {
    std::string name;
    std::string description = {};
  };

  struct Options {
    std::optional<Format> format = {};         // not given: by the name, where .pcapng is pcapng and all else pcap
    std::uint64_t rotate = 0;                  // bytes after which FILE is followed by FILE.1, FILE.2, …; 0: never
    std::uint32_t snaplen = 0;                 // bytes kept of a frame; 0: all
    std::vector<Interface> interfaces = {};    // pcapng: all of them; none given: one without a name
  };

  struct Record {
    std::uint64_t time = 0;            // ns since the Unix epoch
    std::uint32_t interface = 0;       // pcapng: index into Options::interfaces
    std::uint32_t length = 0;          // bytes the frame had on the wire; 0: as many as are given
    std::string_view comment = {};     // pcapng: UTF-8, at most 65535 bytes of it are kept
  };

  // Creates FILE, or empties it, and writes its header; "-" is standard output. FILE is locked while it is open.
  // Errors: usage, permission, device (another writer has it, no such directory, no space). A failed call leaves no file.
  static Result<CaptureWriter> create(const std::string& path, Options options);

  CaptureWriter(CaptureWriter&&) noexcept;
  CaptureWriter& operator=(CaptureWriter&&) noexcept;
  ~CaptureWriter();  // closes; errors of closing are lost

  // Adds a frame to what is to be written. False, and nothing is added, once a write has failed (see status()), or if
  // there is no such interface.
  bool append(std::span<const std::byte> frame, const Record& record) noexcept;

  // pcapng: one more interface, behind those of Options; returns its index. Of pcap the file has none: 0.
  std::uint32_t add_interface(Interface interface);

  // Hands everything to the system. After a failed write the file is cut back to its last whole record.
  bool flush() noexcept;

  // Frames that are whole in the files, in the order of append().
  std::uint64_t frames() const noexcept;
  // What went wrong first.
  Result<void> status() const;
  Format format() const noexcept;

  // Flushes and closes. Errors: device (no space, an I/O error), also when they came earlier.
  Result<void> close();

 private:
  struct State;
  explicit CaptureWriter(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace efio
