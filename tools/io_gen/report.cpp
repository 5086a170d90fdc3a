#include "tools/io_gen/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "efio/clock.h"
#include "efio/version.h"

namespace efio::io_gen {

using tools::grouped;
using tools::Json;

double Measured::rate(std::uint64_t link_bits) const noexcept {
  if (frames == 0 || seconds <= 0) return 0;
  const double measured = static_cast<double>(frames) / seconds;
  if (link_bits == 0) return measured;
  const double bits_a_frame =
      8 * (static_cast<double>(bytes) / static_cast<double>(frames) + static_cast<double>(fcs + wire_overhead));
  return std::min(measured, static_cast<double>(link_bits) / bits_a_frame);
}

namespace {

constexpr std::array<std::pair<const char*, double>, 6> quantiles = {
    {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p99.9", .999}, {"p99.99", .9999}, {"p99.999", .99999}}};

}  // namespace

std::string ns_text(double ns) {
  if (ns < 10'000) return fmt::format("{:.0f} ns", ns);
  if (ns < 10'000'000) return fmt::format("{:.2f} us", ns / 1e3);
  return fmt::format("{:.2f} ms", ns / 1e6);
}

Json histogram_json(const Histogram& all) {
  Json json = {{"count", all.count()}, {"min_ns", all.least()}, {"mean_ns", all.mean()}};
  for (const auto& [name, share] : quantiles) json[fmt::format("{}_ns", name)] = all.quantile(share);
  json["max_ns"] = all.most();
  auto& steps = json["histogram"] = Json::array();
  all.each(
      [&](std::uint64_t first, std::uint64_t last, std::uint64_t count) { steps.push_back({first, last, count}); });
  return json;
}

std::string histogram_text(const Histogram& all) {
  std::string text = ns_text(static_cast<double>(all.least()));
  for (const auto& [name, share] : quantiles)
    text += fmt::format(", {} {}", name, ns_text(static_cast<double>(all.quantile(share))));
  return text + fmt::format(", most {}", ns_text(static_cast<double>(all.most())));
}

namespace {

std::string rate_text(const Measured& flow, std::uint64_t link_bits) {
  const double rate = flow.rate(link_bits);
  if (rate == 0) return "";
  const double bits =
      8 * (static_cast<double>(flow.bytes) / static_cast<double>(flow.frames) + static_cast<double>(fcs));
  return fmt::format("  {:.3f} M frames/s, {:.3f} Gbit/s with FCS, {:.2f} ns a frame, over {:.3f} s\n", rate / 1e6,
                     rate * bits / 1e9, 1e9 / rate, flow.seconds);
}

std::string checker_text(const Checker& checker, const SequenceCounts& sequence) {
  const auto& counts = checker.counts();
  std::string text = fmt::format("  tagged {} in {} streams: {} lost, {} duplicated, {} reordered",
                                 grouped(counts.tagged), grouped(sequence.streams), grouped(sequence.lost),
                                 grouped(sequence.duplicated), grouped(sequence.reordered));
  if (sequence.stale > 0) text += fmt::format(", {} too late to tell", grouped(sequence.stale));
  if (counts.untagged > 0) text += fmt::format("; untagged {}", grouped(counts.untagged));
  text += "\n";
  if (checker.verifies()) {
    text += fmt::format("  checksums: {} right, {} wrong", grouped(counts.right), grouped(counts.wrong));
    if (counts.absent > 0) text += fmt::format(", {} absent", grouped(counts.absent));
    if (counts.unknown > 0) text += fmt::format(", {} not to be verified", grouped(counts.unknown));
    text += "\n";
  }
  return text;
}

std::string flows_text(const Generator& generator) {
  std::string text = fmt::format("  {} flow{}", grouped(generator.flows()), generator.flows() == 1 ? "" : "s");
  if (generator.flows() > generator.streams())
    text +=
        fmt::format(" that share {} streams: order is judged per stream, not per flow", grouped(generator.streams()));
  return text + "\n";
}

std::string gaps_text(const Outcome& o) {
  if (o.gaps == nullptr) return "";
  std::string text = rate_reached(o) ? fmt::format("  the rate asked for, {}, was reached\n", o.rate_asked)
                                     : fmt::format("  the rate asked for, {}, was NOT reached: {:.2f} % behind\n",
                                                   o.rate_asked, o.behind * 100);
  text += fmt::format("  gaps: mean {}, least {}\n", ns_text(o.gaps->all().mean()), histogram_text(o.gaps->all()));
  if (o.gaps->asked() > 0)
    text += fmt::format("        {:.2f} % within {:.0f} ns of {}\n", o.gaps->near() * 100, Gaps::near_ns,
                        ns_text(o.gaps->asked()));
  return text;
}

Json gaps_json(const Gaps& gaps) {
  Json json = histogram_json(gaps.all());
  if (gaps.asked() > 0) {
    json["asked_ns"] = gaps.asked();
    json["within_100_ns"] = gaps.near();
  }
  return json;
}

// RFC 8219 section 7.3.1: the 99.9th percentile less the least.
std::uint64_t delay_variation(const Histogram& delays) { return delays.quantile(.999) - delays.least(); }

std::string arrival_source(const Delays& delays) {
  const auto all = delays.delays().count() + delays.negative();
  return delays.stamped() == all ? "kernel or device, each" : delays.stamped() == 0 ? "clock, once a batch" : "mixed";
}

std::string delays_text(const Checker& checker) {
  if (!checker.delays() || checker.counts().tagged == 0) return "";
  const Delays& d = *checker.delays();
  const auto jitter = d.jitter();
  std::string text;
  if (d.delays().count() > 0)
    text = fmt::format("  delay: mean {}, least {}\n", ns_text(d.delays().mean()), histogram_text(d.delays()));
  text += fmt::format("         PDV {}, jitter {} (RFC 3550, mean of streams; most {}); arrival by {}\n",
                      ns_text(static_cast<double>(delay_variation(d.delays()))), ns_text(jitter.mean),
                      ns_text(jitter.most), arrival_source(d));
  if (d.negative() > 0)
    text += fmt::format("         {} arrived before they were sent, by up to {} ns: the clocks differ\n",
                        grouped(d.negative()), -d.least());
  return text;
}

Json delays_json(const Delays& d) {
  Json json = histogram_json(d.delays());
  const auto jitter = d.jitter();
  json["pdv_ns"] = delay_variation(d.delays());
  json["jitter_ns"] = jitter.mean;
  json["jitter_most_ns"] = jitter.most;
  json["negative"] = d.negative();
  if (d.negative() > 0) json["negative_most_ns"] = -d.least();
  json["sent_time"] = "clock, once a batch";
  json["arrival_time"] = arrival_source(d);
  json["clock"] = Clock::source();
  return json;
}

}  // namespace

bool rate_reached(const Outcome& o) { return o.behind <= 1e-4; }

std::string report_text(const Outcome& o) {
  std::string text;
  if (o.from_port != nullptr) text += tools::port_text(*o.from_port);
  if (o.tx_port != nullptr)
    text += tools::port_text(*o.tx_port) + (o.generator != nullptr ? flows_text(*o.generator) : "") +
            rate_text(o.tx, o.tx_port->info().link_bits) + gaps_text(o);
  if (o.rx_port != nullptr)
    text += tools::port_text(*o.rx_port) + checker_text(*o.checker, o.sequence) +
            rate_text(o.rx, o.rx_port->info().link_bits) + delays_text(*o.checker);
  if (o.copy_port != nullptr) text += tools::port_text(*o.copy_port);
  return text;
}

Json report_json(const Outcome& o) {
  Json json = {{"version", version()}, {"elapsed_s", o.elapsed}, {"interrupted", o.interrupted}};
  auto& ports = json["ports"] = Json::array();
  for (const Port* port : {o.from_port, o.tx_port, o.rx_port, o.copy_port})
    if (port != nullptr) ports.push_back(tools::port_json(*port));
  auto& rate = json["rate"] = Json::object();
  if (o.tx_port != nullptr) {
    rate["tx_pps"] = o.tx.rate(o.tx_port->info().link_bits);
    if (o.generator != nullptr) {
      json["flows"] = o.generator->flows();
      json["streams"] = o.generator->streams();
    }
    if (o.gaps != nullptr) {
      rate["asked"] = o.rate_asked;
      rate["reached"] = rate_reached(o);
      rate["behind"] = o.behind;
      json["gaps"] = gaps_json(*o.gaps);
    }
  }
  if (o.rx_port != nullptr) {
    rate["rx_pps"] = o.rx.rate(o.rx_port->info().link_bits);
    const auto& counts = o.checker->counts();
    json["sequence"] = {{"lost", o.sequence.lost},           {"duplicated", o.sequence.duplicated},
                        {"reordered", o.sequence.reordered}, {"stale", o.sequence.stale},
                        {"streams", o.sequence.streams},     {"tagged", counts.tagged},
                        {"untagged", counts.untagged}};
    if (o.checker->verifies())
      json["checksums"] = {
          {"right", counts.right}, {"wrong", counts.wrong}, {"absent", counts.absent}, {"unknown", counts.unknown}};
    if (o.checker->delays() && counts.tagged > 0) json["delay"] = delays_json(*o.checker->delays());
  }
  if (!o.errors.empty()) {
    auto& errors = json["errors"] = Json::array();
    for (const auto& error : o.errors) errors.push_back(error.message());
  }
  return json;
}

std::vector<std::string> not_met(const Options& options, const Outcome& o) {
  std::vector<std::string> sentences;
  const auto& expect = options.expect;
  if (o.tx_port != nullptr) {
    const auto tx = o.tx_port->stats().tx;
    if (expect.sent && tx.sent != *expect.sent)
      sentences.push_back(fmt::format("--expect-sent {}: {} were sent", *expect.sent, tx.sent));
    if (expect.rate && !rate_reached(o))
      sentences.push_back(fmt::format("--expect-rate: {:.2f} % behind {}", o.behind * 100, o.rate_asked));
    // All were offered, yet not all were sent: the counters name the reasons.
    if (tx.offered == options.count && tx.sent != options.count)
      sentences.push_back(fmt::format("--count {}: {} were sent, {} dropped, {} pending", options.count, tx.sent,
                                      tx.total_dropped(), tx.pending));
  }
  if (o.rx_port != nullptr) {
    const auto rx = o.rx_port->stats().rx;
    const auto& counts = o.checker->counts();
    if (expect.received && rx.delivered != *expect.received)
      sentences.push_back(fmt::format("--expect-received {}: {} were received", *expect.received, rx.delivered));
    if (expect.lost && o.sequence.lost > *expect.lost)
      sentences.push_back(fmt::format("--expect-lost {}: {} were lost", *expect.lost, o.sequence.lost));
    const auto faults =
        o.sequence.lost + o.sequence.duplicated + o.sequence.reordered + o.sequence.stale + counts.wrong;
    if (expect.clean && faults > 0)
      sentences.push_back(
          fmt::format("--expect-clean: {} lost, {} duplicated, {} reordered, {} too late, {} checksums wrong",
                      o.sequence.lost, o.sequence.duplicated, o.sequence.reordered, o.sequence.stale, counts.wrong));
  }
  return sentences;
}

std::string live_text(double elapsed, double since, const std::optional<TxStats>& tx,
                      const std::optional<TxStats>& tx_before, const std::optional<RxStats>& rx,
                      const std::optional<RxStats>& rx_before) {
  std::string text = fmt::format("{:.1f} s", elapsed);
  const auto add = [&](std::string_view what, std::uint64_t now, std::uint64_t before) {
    text += fmt::format("  {} {} ({:.3f} M/s)", what, grouped(now), static_cast<double>(now - before) / since / 1e6);
  };
  if (tx) {
    add("sent", tx->sent, tx_before ? tx_before->sent : 0);
    if (const auto dropped = tx->total_dropped(); dropped > 0) text += fmt::format("  dropped {}", grouped(dropped));
  }
  if (rx) {
    add("received", rx->delivered, rx_before ? rx_before->delivered : 0);
    if (const auto dropped = rx->total_dropped(); dropped > 0) text += fmt::format("  dropped {}", grouped(dropped));
  }
  return text;
}

}  // namespace efio::io_gen
