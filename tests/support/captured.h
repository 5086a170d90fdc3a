// Machines as text (tests/efdoctor/README.md), unfolded into a folder that efdoctor reads.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/directory.h"
#include "tools/efdoctor/device_answers.h"

namespace efio::test {

struct ExaminationCase {
  std::vector<std::string> devices;
  std::string cpus, frame;
  std::vector<std::string> expected;  // "warning:rx-ring"
  std::vector<std::string> refused;
  std::vector<std::pair<std::string, std::string>> said;  // id, text
  std::size_t line = 0;
};

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// All files below a directory, by path.
inline std::map<std::string, std::string> tree(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    if (entry.is_regular_file()) files[entry.path().lexically_relative(directory).string()] = file_text(entry.path());
  return files;
}

class CapturedMachine {
 public:
  explicit CapturedMachine(const std::string& path) : directory_("efdoctor_machine", Directory::in_memory()) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("no file " + path);
    std::size_t number = 0;
    for (std::string line; std::getline(file, line);) {
      ++number;
      std::istringstream words(line);
      std::string word;
      words >> word;
      if (word.empty() || word.starts_with('#')) continue;
      if (word == "=" || word == "@") {
        std::string place, content;
        words >> place;
        if (word == "=") {
          content = line.substr(std::min(line.size(), line.find(place) + place.size() + 1)) + "\n";
        } else {
          for (std::string inner; std::getline(file, inner) && inner != "."; ++number) content += inner + "\n";
          ++number;
        }
        // As `efdoctor capture` writes it, so that a change and its undoing leave the same bytes.
        if (place.ends_with(".json")) content = doctor::pretty(to_json(doctor::from_json(content, place).value()));
        save(place, content);
      } else {
        read_case_line(word, words, number);
      }
    }
  }

  // Unfolds it when it is first asked for.
  std::string root() const {
    const auto path = directory_.file("root");
    if (std::filesystem::exists(path)) return path;
    std::filesystem::create_directories(path + "/proc");
    for (const auto& [place, content] : files_) {
      std::filesystem::create_directories(std::filesystem::path(path + place).parent_path());
      std::ofstream(path + place, std::ios::binary) << content;
    }
    return path;
  }
  const std::vector<ExaminationCase>& cases() const { return cases_; }

 private:
  void read_case_line(const std::string& word, std::istringstream& words, std::size_t number) {
    if (word == "case") cases_.emplace_back().line = number;
    if (cases_.empty()) throw std::runtime_error("line " + std::to_string(number) + ": " + word);
    auto& now = cases_.back();
    std::string next;
    if (word == "says") {
      words >> next;
      std::string rest;
      std::getline(words, rest);
      now.said.emplace_back(next, rest.substr(rest.find_first_not_of(' ')));
      return;
    }
    while (words >> next) {
      if (word == "expect")
        now.expected.push_back(next);
      else if (word == "refuse")
        now.refused.push_back(next);
      else if (word != "case")
        throw std::runtime_error("line " + std::to_string(number) + ": " + word);
      else if (next == "--cpu")
        words >> now.cpus;
      else if (next == "--frame")
        words >> now.frame;
      else
        now.devices.push_back(next);
    }
  }

  void save(const std::string& place, const std::string& content) {
    const auto open = place.find('{'), dots = place.find(".."), close = place.find('}');
    if (open != std::string::npos && dots != std::string::npos && close != std::string::npos) {
      const int first = std::stoi(place.substr(open + 1)), last = std::stoi(place.substr(dots + 2));
      for (int i = first; i <= last; ++i)
        save(place.substr(0, open) + std::to_string(i) + place.substr(close + 1), content);
      return;
    }
    files_[place] = content;
  }

  Directory directory_;
  std::vector<ExaminationCase> cases_;
  std::map<std::string, std::string> files_;
};

}  // namespace efio::test
