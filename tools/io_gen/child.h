// A second process of this program, for a half of a measurement that must not share ours.
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "efio/descriptor.h"
#include "efio/result.h"

namespace efio::io_gen {

class Child {
 public:
  // Runs io_gen with these words and --json, and returns when its ports are open. Errors: device (what it complained of).
  static Result<Child> start(std::vector<std::string> words);
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child();  // ends it at once

  // Asks it to stop, and reads its report. Errors: device.
  Result<nlohmann::json> finish();

 private:
  Child() = default;

  pid_t pid_ = -1;
  Fd output_, complaints_;
};

}  // namespace efio::io_gen
