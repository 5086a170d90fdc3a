// Changes settings so that they can be put back, whatever happens in between.
//
// The state file lists what was changed. Before a setting is touched it is entered there, as pending, and the file is
// on the disk; afterwards what it really became. A setting that is pending when undo() finds it was being changed when
// the program died: it is put back whatever it is. One that is not pending, and is no longer what it was changed to,
// was changed by somebody else since: it is left alone. Undoing, too, marks what it is about to touch.
#pragma once

#include <string>
#include <vector>

#include "efio/descriptor.h"
#include "tools/efdoctor/host.h"

namespace efio::doctor {

struct Outcome {
  enum class Kind {
    done,
    already,  // it was so before
    refused,  // by the kernel or the driver
    left,     // undo: changed by somebody else since
    gone,     // undo: with its device
    waiting,  // undo: it is in another network namespace, where efdoctor must run for it
  };
  Change change;  // in the direction in which it was made
  Kind kind = Kind::done;
  std::string why;  // empty for done
};
std::string_view name_of(Outcome::Kind kind) noexcept;

class Fixer {
 public:
  // Errors: device (another efdoctor is at it; the file cannot be kept there), permission (others may write to the
  // file), data (it is damaged).
  static Result<Fixer> open(Host& host, const std::string& state_file);

  // What each change would do, or did. An error ends it: what was done until then is in the state file.
  Result<std::vector<Outcome>> apply(const std::vector<Change>& changes);
  // Puts everything back, last change first. What is waiting, or was refused, stays in the file.
  Result<std::vector<Outcome>> undo();

  // What undo() would do.
  std::vector<Change> recorded() const;

 private:
  struct Entry {
    Change change;
    bool pending = false;
    std::string space;  // the network namespace of a device
    int index = 0;      // of the device: another may have its name by now
  };

  Fixer(Host& host, std::string state_file) : host_(&host), path_(std::move(state_file)) {}
  Result<void> load();
  Result<void> save();
  Result<Outcome> put_back(Entry& entry);
  Result<Outcome> make(const Change& change);

  Host* host_;
  std::string path_;
  Fd lock_;
  std::vector<Entry> entries_;
};

}  // namespace efio::doctor
