#include "tools/io_gen/rfc2544.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ranges>
#include <thread>

#include "efio/version.h"
#include "tools/common/exit_code.h"
#include "tools/common/port_report.h"
#include "tools/io_gen/run.h"

namespace efio::io_gen {

namespace {

using std::chrono::duration_cast;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using tools::Json;

constexpr std::pair<std::string_view, Rfc2544::Test> test_names[] = {{"throughput", Rfc2544::throughput},
                                                                     {"latency", Rfc2544::latency},
                                                                     {"loss", Rfc2544::loss},
                                                                     {"back-to-back", Rfc2544::back_to_back}};
constexpr double loss_step = 0.1;                  // section 26.3: of the highest rate, at the most
constexpr nanoseconds longest_burst = seconds(2);  // section 26.4: at the highest rate
constexpr std::uint64_t shortest_burst = 64;       // frames, to begin with
constexpr unsigned most_repeats = 4;
constexpr std::uint64_t longest_stall = 100'000;  // ns; a sender that is at rest longer has a burst to catch up
constexpr double allowance = 1.5;                 // a sender that takes so much longer than planned is stopped

double in_seconds(nanoseconds time) { return std::chrono::duration<double>(time).count(); }

// All trials with frames of one size.
class Series {
 public:
  Series(const Options& options, std::uint32_t size) : options_(options), test_(options.rfc2544) {
    found_.size = size;
    options_.command = Command::both;
    options_.traffic.sizes = *Sizes::parse(std::to_string(size));
    options_.quiet = test_.residual;
    options_.verify = false;
  }

  Result<SizeFindings> measure() {
    const auto steps = {&Series::find_throughput, &Series::measure_latency, &Series::measure_loss,
                        &Series::measure_bursts};
    for (const auto step : steps) {
      if (auto ok = (this->*step)(); !ok) return std::unexpected(ok.error());
      if (found_.stopped) break;
    }
    return std::move(found_);
  }

 private:
  // `rate`: frames a second; 0: as fast as possible.
  Result<Trial> attempt(double rate, nanoseconds time, std::uint64_t frames = 0) {
    if (found_.trials++ > 0) std::this_thread::sleep_for(test_.pause);
    const auto whole = static_cast<std::uint64_t>(std::llround(rate));
    options_.rate = {};
    if (whole > 0) options_.rate.steps = {{whole, whole}};
    options_.count = frames > 0  ? frames
                     : whole > 0 ? std::max<std::uint64_t>(1, static_cast<std::uint64_t>(rate * in_seconds(time)))
                                 : UINT64_MAX;
    options_.duration = whole == 0 ? time : duration_cast<nanoseconds>(time * allowance) + seconds(1);
    Run run(options_);
    if (auto ready = run.prepare(); !ready) return std::unexpected(ready.error());
    run.perform();
    const Outcome& o = run.outcome();
    if (!o.errors.empty()) return std::unexpected(o.errors.front());
    Trial trial;
    trial.sent = o.tx.frames;
    trial.lost = o.sequence.lost;
    trial.offered = whole > 0 ? rate : o.tx.rate(o.tx_port->info().link_bits);
    trial.reached = rate_reached(o) && (options_.count == UINT64_MAX || o.tx.frames == options_.count);
    trial.disturbed = o.gaps != nullptr && o.gaps->all().most() > longest_stall;
    trial.stopped = o.interrupted;
    if (o.checker->delays()) trial.delays = o.checker->delays()->delays();
    found_.stopped = found_.stopped || trial.stopped;
    return trial;
  }

  // A trial that fails after the sender stood still says little of the device, which got a burst: it is repeated.
  Result<Trial> attempt_again(double rate) {
    for (unsigned left = most_repeats;; --left) {
      auto trial = attempt(rate, test_.trial);
      if (!trial || found_.stopped || passes(*trial) || !trial->disturbed || left == 0) return trial;
      ++found_.repeated;
    }
  }

  bool passes(const Trial& trial) const { return trial.reached && trial.loss() <= test_.tolerated; }

  // Section 26.1: the highest rate at which as many frames come out as went in. Halving, from the highest rate on and,
  // because that is where it usually is, from what came out at that.
  Result<void> find_throughput() {
    const bool asked = (test_.tests & (Rfc2544::throughput | Rfc2544::latency)) != 0;
    if (!asked && test_.most > 0) {
      found_.most = static_cast<double>(test_.most);
      return {};
    }
    const auto line = attempt(static_cast<double>(test_.most), test_.trial);
    if (!line) return std::unexpected(line.error());
    found_.most = line->reached ? line->offered : static_cast<double>(line->sent) / in_seconds(test_.trial);
    if (found_.stopped || !asked) return {};
    if (line->loss() <= test_.tolerated && (line->reached || test_.most == 0)) {
      found_.throughput = found_.most;
      found_.sender_bound = test_.most == 0 || !line->reached;
      return {};
    }
    double good = 0, bad = found_.most;
    double next = bad * (1 - line->loss()) * (1 - test_.resolution / 2);
    while (bad - good > test_.resolution * found_.most && bad > 2) {
      const auto trial = attempt_again(next);
      if (!trial) return std::unexpected(trial.error());
      if (found_.stopped) return {};
      (passes(*trial) ? good : bad) = next;
      // The first guess is close: look on its other side before halving what is left.
      const double near = passes(*trial) ? next + test_.resolution * found_.most : next * (1 - 4 * test_.resolution);
      next = near > good && near < bad && found_.trials - found_.repeated < 4 ? near : (good + bad) / 2;
    }
    found_.throughput = std::floor(good);
    return {};
  }

  // Section 26.2: at the throughput, the mean of all trials; here of every frame.
  Result<void> measure_latency() {
    if ((test_.tests & Rfc2544::latency) == 0 || found_.throughput < 1) return {};
    for (unsigned i = 0; i < test_.latency_trials && !found_.stopped; ++i) {
      const auto trial = attempt(found_.throughput, test_.latency_trial);
      if (!trial) return std::unexpected(trial.error());
      found_.mean_delays.push_back(trial->delays.mean());
      trial->delays.each([&](std::uint64_t first, std::uint64_t last, std::uint64_t count) {
        found_.delays.add(first + (last - first) / 2, count);
      });
    }
    return {};
  }

  // Section 26.3: in steps of a tenth from the highest rate down, until two in a row lose nothing.
  Result<void> measure_loss() {
    if ((test_.tests & Rfc2544::loss) == 0) return {};
    unsigned whole = 0;
    for (double share = 1; share > loss_step / 2 && whole < 2 && !found_.stopped; share -= loss_step) {
      auto trial = attempt(found_.most * share, test_.trial);
      if (!trial) return std::unexpected(trial.error());
      whole = trial->lost == 0 ? whole + 1 : 0;
      found_.losses.push_back(std::move(*trial));
    }
    return {};
  }

  // Section 26.4: the longest burst at the highest rate of which nothing is lost; the mean of many.
  Result<void> measure_bursts() {
    if ((test_.tests & Rfc2544::back_to_back) == 0) return {};
    const auto most = static_cast<std::uint64_t>(found_.most * in_seconds(longest_burst));
    double sum = 0;
    for (unsigned i = 0; i < test_.bursts; ++i) {
      std::uint64_t good = 0, bad = most + 1;
      for (std::uint64_t next = std::min<std::uint64_t>(shortest_burst, most);
           bad - good > std::max<std::uint64_t>(1, good / 1000);) {
        const auto trial = attempt(static_cast<double>(test_.most), longest_burst, next);
        if (!trial) return std::unexpected(trial.error());
        if (found_.stopped) return {};
        (trial->lost == 0 ? good : bad) = next;
        next = bad > most ? std::min(2 * good, most) : good + (bad - good) / 2;
      }
      sum += static_cast<double>(good);
    }
    found_.back_to_back = sum / test_.bursts;
    return {};
  }

  Options options_;
  const Rfc2544 test_;
  SizeFindings found_;
};

Json findings_json(const SizeFindings& found, const Rfc2544& test) {
  const double bits = 8.0 * (found.size + wire_overhead);
  Json json = {{"size", found.size},
               {"offered_most_pps", found.most},
               {"throughput_pps", found.throughput},
               {"throughput_l1_bps", found.throughput * bits},
               {"limited_by_sender", found.sender_bound},
               {"trials", found.trials},
               {"repeated", found.repeated}};
  if (!found.mean_delays.empty()) {
    const double mean = std::accumulate(found.mean_delays.begin(), found.mean_delays.end(), 0.0) /
                        static_cast<double>(found.mean_delays.size());
    json["latency"] = histogram_json(found.delays);
    json["latency"]["mean_of_trials_ns"] = mean;
  }
  if (!found.losses.empty()) {
    auto& losses = json["loss"] = Json::array();
    for (const auto& trial : found.losses)
      losses.push_back(
          {{"offered_pps", trial.offered}, {"sent", trial.sent}, {"lost", trial.lost}, {"reached", trial.reached}});
  }
  if ((test.tests & Rfc2544::back_to_back) != 0) json["back_to_back_frames"] = found.back_to_back;
  return json;
}

std::string findings_text(const SizeFindings& found, const Rfc2544& test) {
  const double bits = 8.0 * (found.size + wire_overhead);
  auto text = fmt::format("{:>6} {:>14.0f}", found.size, found.most);
  if (found.throughput > 0)
    text += fmt::format(" {:>14.0f} {:>9.3f}{}", found.throughput, found.throughput * bits / 1e9,
                        found.sender_bound ? "  the sender's limit" : "");
  text += "\n";
  if (found.repeated > 0)
    text += fmt::format("       {} of {} trials were repeats, after the sender had lost its processor\n",
                        found.repeated, found.trials);
  if (!found.mean_delays.empty())
    text += fmt::format("       delay at the throughput: mean {}, least {}\n", ns_text(found.delays.mean()),
                        histogram_text(found.delays));
  for (const auto& trial : found.losses)
    text += fmt::format("       at {:.0f} frames/s: {:.4f} % lost{}\n", trial.offered, trial.loss() * 100,
                        trial.reached ? "" : " (the sender did not hold the rate)");
  if ((test.tests & Rfc2544::back_to_back) != 0)
    text += fmt::format("       back to back: {:.0f} frames\n", found.back_to_back);
  return text;
}

}  // namespace

bool Rfc2544::parse_tests(std::string_view words) {
  if (words == "all") {
    tests = throughput | latency | loss | back_to_back;
    return true;
  }
  tests = 0;
  for (const auto part : std::views::split(words, ',')) {
    const std::string_view word(part.begin(), part.end());
    const auto known = std::ranges::find(test_names, word, [](const auto& name) { return name.first; });
    if (known == std::end(test_names)) return false;
    tests |= known->second;
  }
  return true;
}

std::vector<std::string> Rfc2544::deviations() const {
  std::vector<std::string> phrases;
  const auto shorter = [&](const char* what, nanoseconds is, nanoseconds asked, const char* section) {
    if (is < asked)
      phrases.push_back(
          fmt::format("{} of {} s instead of {} s (section {})", what, in_seconds(is), in_seconds(asked), section));
  };
  const Rfc2544 asked;
  shorter("trials", trial, asked.trial, "24");
  if ((tests & latency) != 0) {
    shorter("latency trials", latency_trial, asked.latency_trial, "26.2");
    if (latency_trials < asked.latency_trials)
      phrases.push_back(
          fmt::format("{} latency trials instead of {} (section 26.2)", latency_trials, asked.latency_trials));
  }
  if ((tests & back_to_back) != 0 && bursts < asked.bursts)
    phrases.push_back(fmt::format("{} bursts instead of {} (section 26.4)", bursts, asked.bursts));
  shorter("a wait for late frames", residual, asked.residual, "23");
  shorter("a pause between trials", pause, asked.pause, "23");
  if (sizes != asked.sizes) phrases.emplace_back("other sizes (section 9.1)");
  if (tolerated > 0) phrases.push_back(fmt::format("{} of the frames may be lost (section 26.1)", tolerated));
  return phrases;
}

Result<SizeFindings> measure_size(const Options& options, std::uint32_t size) {
  return Series(options, size).measure();
}

int run_rfc2544(const Options& options) {
  const Rfc2544& test = options.rfc2544;
  const auto deviations = test.deviations();
  Json json = {{"version", version()}, {"to_standard", deviations.empty()}, {"deviations", deviations}};
  auto& sizes = json["sizes"] = Json::array();
  if (!options.json) {
    fmt::print("RFC 2544, {} to {}{}\n", options.tx_port, options.rx_port,
               deviations.empty() ? "" : fmt::format("; NOT to the standard: {}", fmt::join(deviations, "; ")));
    fmt::print("{:>6} {:>14} {:>14} {:>9}\n", "size", "offered most/s", "throughput/s", "Gbit/s L1");
  }
  for (const auto size : test.sizes) {
    const auto found = measure_size(options, size);
    if (!found) return tools::complain("io_gen", found.error());
    if (found->stopped) {
      tools::remark("io_gen", "rfc2544: stopped by a signal; sizes that were not finished are left out");
      break;
    }
    sizes.push_back(findings_json(*found, test));
    if (!options.json) fmt::print("{}", findings_text(*found, test));
    std::fflush(stdout);
  }
  if (options.json) fmt::print("{}\n", json.dump());
  if (auto written = tools::finish_output(); !written) return tools::complain("io_gen", written.error());
  return sizes.size() == test.sizes.size() ? tools::exit_done : tools::exit_not_met;
}

}  // namespace efio::io_gen
