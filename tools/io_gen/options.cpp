#include "tools/io_gen/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>

#include "efio/fail.h"
#include "efio/text.h"
#include "tools/common/command_line.h"
#include "tools/common/cpus.h"
#include "tools/common/help.h"
#include "tools/io_gen/generator.h"
#include "tools/io_gen/short_frames.h"
#include "tools/io_gen/tag.h"

namespace efio::io_gen {

namespace {

constexpr std::uint64_t most_rate = 10'000'000'000;
constexpr std::uint64_t most_count = std::uint64_t{1} << 62;
constexpr auto longest_run = std::chrono::hours(24 * 366);

// The words of the command line, before anything is made of them. Empty: not given.
struct Words {
  std::string tx, rx;
  std::string size, flows, order, seed, proto, src, dst, sport, dport, src_mac, dst_mac, vlan, stream_base, rate, burst,
      gaps;
  std::string count, duration, batch, cpus, write, loops;
  std::string from, timing, loop;
  std::string tests, sizes, trial, latency_trial, latency_trials, bursts, residual, pause, max_rate, resolution,
      tolerate;
  std::vector<std::string> maps;
  std::string expect_sent, expect_received, expect_lost;
  unsigned threads = 1;
  bool no_tag = false, verify = false, no_verify = false, json = false, say_ready = false, expect_clean = false,
       expect_rate = false;
};

void add_traffic(CLI::App& app, Words& w) {
  auto* group = app.add_option_group("Frames");
  group->add_option("--size", w.size, "64, 64-1518 or imix (7:4:1 of 64, 594, 1518); bytes with FCS [64]")
      ->type_name("SIZE");
  group->add_option("--flows", w.flows, "Spread over so many flows of addresses and ports [1]")->type_name("N");
  group->add_option("--order", w.order, "Flows one after the other, or at random from --seed [sequential]")
      ->check(CLI::IsMember({"sequential", "random"}));
  group->add_option("--seed", w.seed, "Of the random order [1]")->type_name("N");
  group->add_option("--proto", w.proto, "[udp]")->check(CLI::IsMember({"udp", "tcp", "icmp"}));
  group->add_option("--src", w.src, "Source addresses: one, a-b or a prefix; IPv4 or IPv6 [198.18.0.1-198.18.0.254]")
      ->type_name("RANGE");
  group->add_option("--dst", w.dst, "Destination addresses [198.19.0.1]")->type_name("RANGE");
  group->add_option("--sport", w.sport, "Source ports; of ICMP: echo identifiers [1024-65535]")->type_name("RANGE");
  group->add_option("--dport", w.dport, "Destination ports [9]")->type_name("RANGE");
  group->add_option("--src-mac", w.src_mac, "[the device's]")->type_name("MAC");
  group->add_option("--dst-mac", w.dst_mac, "[from the device's neighbour table, else 02:00:00:00:00:02]")
      ->type_name("MAC");
  group->add_option("--vlan", w.vlan, "VLAN tags, the outermost first: 10 or 10,20")->type_name("ID[,ID...]");
  group->add_flag("--no-tag", w.no_tag, "No sequence number and time in the payload");
  group->add_option("--stream-base", w.stream_base, "Number of the first stream in the tags [0]")->type_name("N");
}

void add_replay(CLI::App& app, Words& w) {
  auto* group = app.add_option_group("Frames of a capture, in place of these");
  group
      ->add_option("--from", w.from,
                   "Send the frames of this capture, pcap or pcapng; --src-mac and --dst-mac replace theirs")
      ->type_name("FILE");
  group
      ->add_option("--timing", w.timing,
                   "original, a factor such as 2 (twice as fast), or full [original; --rate in its place]")
      ->type_name("HOW");
  group->add_option("--loop", w.loop, "Passes over it; 0: for ever [1]")->type_name("N");
  group
      ->add_option("--map", w.maps,
                   "Other addresses, sources and destinations: 10.0.0.0/8=172.0.0.0/8; may be repeated")
      ->type_name("FROM=TO")
      ->take_all();
}

void add_sending(CLI::App& app, Words& w) {
  add_traffic(app, w);
  app.add_option("--rate", w.rate,
                 "1M (frames/s), 2Gbit (layer 2 with FCS), 2GbitL1 (with preamble and gap) or line; steps and ramps: "
                 "1M@2s,1M-5M@10s,5M [line]")
      ->type_name("RATE");
  app.add_option("--burst", w.burst, "So many frames together, at the mean rate of --rate; or N@1ms: one every 1 ms")
      ->type_name("N[@TIME]");
  app.add_option("--gaps", w.gaps, "Under a rate: even, or exponential about it from --seed [even]")
      ->check(CLI::IsMember({"even", "poisson"}));
  app.add_flag("--expect-rate", w.expect_rate, "End with 1 if less was sent than --rate or --burst says");
  app.add_option("--expect-sent", w.expect_sent, "End with 1 unless exactly so many were sent")->type_name("N");
}

void add_receiving(CLI::App& app, Words& w) {
  app.add_option("--expect-received", w.expect_received, "End with 1 unless exactly so many were received")
      ->type_name("N");
  app.add_option("--expect-lost", w.expect_lost, "End with 1 if more were lost")->type_name("N");
  app.add_flag("--expect-clean", w.expect_clean,
               "End with 1 if any is lost, duplicated, reordered, or its checksum wrong");
}

void add_rfc2544(CLI::App& app, Words& w) {
  app.add_option("--tests", w.tests, "Of throughput, latency, loss, back-to-back; or all [throughput]")
      ->type_name("LIST");
  app.add_option("--sizes", w.sizes, "Bytes with FCS [64,128,256,512,1024,1280,1518]")->type_name("LIST");
  app.add_option("--trial", w.trial, "How long each trial is [60s]")->type_name("TIME");
  app.add_option("--latency-trial", w.latency_trial, "And each of latency [120s]")->type_name("TIME");
  app.add_option("--latency-trials", w.latency_trials, "How many of them [20]")->type_name("N");
  app.add_option("--bursts", w.bursts, "How many longest bursts to find [50]")->type_name("N");
  app.add_option("--residual", w.residual, "Wait for frames still on their way [2s]")->type_name("TIME");
  app.add_option("--pause", w.pause, "Between trials [5s]")->type_name("TIME");
  app.add_option("--max-rate", w.max_rate, "Frames a second to begin with [what the sender reaches]")->type_name("N");
  app.add_option("--resolution", w.resolution, "Of the throughput, as a share of the highest rate [0.1%]")
      ->type_name("SHARE");
  app.add_option("--tolerate", w.tolerate, "Share of frames that may be lost [0]")->type_name("SHARE");
  app.add_option("--threads", w.threads, "One for both directions, or one each [1]")->check(CLI::IsMember({1, 2}));
  add_traffic(app, w);
  app.add_option("--batch", w.batch, "Frames moved at a time [64]")->type_name("N");
  app.add_option("--cpu", w.cpus, "Processors for its threads: 0 or 0,1")->type_name("LIST");
  app.add_flag("--json", w.json, "One JSON object on standard output, at the end");
}

void add_common(CLI::App& app, Words& w, bool table = false) {
  if (!table) app.add_option("--count", w.count, "Stop after so many frames")->type_name("N");
  app.add_option("--duration", w.duration, table ? "Of each cell [1s]" : "Stop after this time: 10, 10s, 500ms, 2min")
      ->type_name("TIME");
  app.add_option("--batch", w.batch, "Frames moved at a time [64]")->type_name("N");
  app.add_option("--cpu", w.cpus, "Processors for its threads: 0 or 0,1")->type_name("LIST");
  if (!table) app.add_flag("--say-ready", w.say_ready, "Say on standard error when the ports are open, for scripts");
  app.add_flag("--json", w.json, "One JSON object on standard output, at the end");
}

struct Commands {
  CLI::App *tx, *rx, *both, *table, *rfc2544;
};

Commands add_commands(CLI::App& app, Words& w) {
  app.require_subcommand(1);
  Commands c{};
  c.tx = app.add_subcommand("tx", "Send");
  c.tx->add_option("PORT", w.tx, "Where to send: packet:eth0, pcap:out.pcap, pipe:x")->required();
  add_replay(*c.tx, w);
  add_sending(*c.tx, w);
  add_common(*c.tx, w);

  c.rx = app.add_subcommand("rx", "Receive, count and check");
  c.rx->add_option("PORT", w.rx, "Where to receive")->required();
  c.rx->add_flag("--verify", w.verify, "Verify IPv4, UDP, TCP and ICMP checksums");
  c.rx->add_option("--write", w.write, "Write what is received to this capture")->type_name("FILE");
  add_receiving(*c.rx, w);
  add_common(*c.rx, w);

  c.both = app.add_subcommand("both", "Send and receive in one process");
  c.both->add_option("TXPORT", w.tx, "Where to send")->required();
  c.both->add_option("RXPORT", w.rx, "Where to receive")->required();
  c.both->add_option("--threads", w.threads, "One for both directions, or one each [1]")->check(CLI::IsMember({1, 2}));
  c.both->add_flag("--no-verify", w.no_verify, "Do not verify checksums");
  add_sending(*c.both, w);
  add_receiving(*c.both, w);
  add_common(*c.both, w);

  c.table =
      app.add_subcommand("table", "Measure: rx only, tx only, both in one thread and in two, by one flow and many");
  c.table->add_option("--tx", w.tx, "Where to send [pipe:]")->type_name("PORT");
  c.table->add_option("--rx", w.rx, "Where to receive [pipe:]")->type_name("PORT");
  c.table->add_option("--loops", w.loops, "For 64-byte frames: avx512, avx2 or scalar [the first that runs here]")
      ->type_name("NAME");
  add_traffic(*c.table, w);
  add_common(*c.table, w, true);

  c.rfc2544 = app.add_subcommand("rfc2544", "Find what a device between two ports carries, as RFC 2544 says");
  c.rfc2544->add_option("TXPORT", w.tx, "Where to send")->required();
  c.rfc2544->add_option("RXPORT", w.rx, "Where it comes out")->required();
  add_rfc2544(*c.rfc2544, w);
  return c;
}

bool is_command(const CLI::App& app, const std::string& word) {
  return !app.get_subcommands([&](const CLI::App* command) { return command->get_name() == word; }).empty();
}

// Reads words one after the other and keeps the first mistake.
class Reader {
 public:
  template <class T>
  void take(Result<T>&& result, T& into) {
    if (result)
      into = std::move(*result);
    else if (!error_)
      error_ = std::move(result.error());
  }

  std::uint64_t number(std::string_view option, const std::string& word, std::uint64_t otherwise, std::uint64_t least,
                       std::uint64_t most) {
    if (word.empty()) return otherwise;
    const auto value = parse_count(word);
    if (value && *value >= least && *value <= most) return *value;
    refuse(option, word, value ? "out of range" : "not a number",
           fmt::format("{} to {}, such as {}", least, most,
                       std::max<std::uint64_t>(least, otherwise <= most ? otherwise : 1000)));
    return otherwise;
  }

  std::optional<std::uint64_t> optional_number(std::string_view option, const std::string& word) {
    if (word.empty()) return std::nullopt;
    return number(option, word, 0, 0, most_count);
  }

  template <class T>
  void parsed(std::string_view option, const std::string& word, T& into, std::string_view example) {
    if (word.empty()) return;
    if (auto value = T::parse(word))
      into = *value;
    else
      refuse(option, word, "not of the right form", example);
  }

  void refuse(std::string_view option, std::string_view word, std::string_view why, std::string_view hint) {
    if (!error_)
      error_ = fail(Error::Kind::usage, fmt::format("{} {}", option, word), "{}", why).hint("{}", hint).error();
  }

  void also(Result<void>&& result) {
    if (!result && !error_) error_ = std::move(result.error());
  }

  std::optional<Error>& error() noexcept { return error_; }

 private:
  std::optional<Error> error_;
};

std::vector<std::uint16_t> read_vlans(Reader& read, const std::string& word) {
  std::vector<std::uint16_t> vlans;
  for (const auto& part : CLI::detail::split(word, ',')) {
    std::uint16_t id = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), id);
    if (error != std::errc() || end != part.data() + part.size() || id > 4094)
      read.refuse("--vlan", word, "not VLAN identifiers", "0 to 4094, such as 10 or 10,20");
    vlans.push_back(id);
  }
  if (vlans.size() > most_vlans) read.refuse("--vlan", word, "too many tags", fmt::format("at most {}", most_vlans));
  return vlans;
}

void read_addresses(Reader& read, const Words& w, Traffic& traffic) {
  if (!w.src.empty()) read.take(Addresses::parse("--src", w.src), traffic.src);
  if (!w.dst.empty()) read.take(Addresses::parse("--dst", w.dst), traffic.dst);
  if (w.src.empty() && traffic.dst.ipv6) traffic.src = benchmark_sources(true);
  if (w.dst.empty() && traffic.src.ipv6) traffic.dst = benchmark_destination(true);
}

void read_traffic(Reader& read, const Words& w, Options& options) {
  Traffic& traffic = options.traffic;
  if (!w.size.empty()) read.take(Sizes::parse(w.size), traffic.sizes);
  traffic.flows = read.number("--flows", w.flows, options.command == Command::table ? Tag::streams : 1, 1, most_flows);
  traffic.random = w.order == "random" || options.command == Command::table;
  traffic.seed = read.number("--seed", w.seed, 1, 0, UINT64_MAX);
  traffic.transport = w.proto == "tcp" ? Transport::tcp : w.proto == "icmp" ? Transport::icmp : Transport::udp;
  read_addresses(read, w, traffic);
  read.parsed("--sport", w.sport, traffic.sport, "1024-65535 or 80");
  read.parsed("--dport", w.dport, traffic.dport, "1024-65535 or 80");
  read.parsed("--src-mac", w.src_mac, traffic.src_mac, "02:00:00:00:00:01");
  read.parsed("--dst-mac", w.dst_mac, traffic.dst_mac, "02:00:00:00:00:02");
  options.src_mac_given = !w.src_mac.empty();
  options.dst_mac_given = !w.dst_mac.empty();
  if (!w.vlan.empty()) traffic.vlans = read_vlans(read, w.vlan);
  traffic.tag = !w.no_tag;
  traffic.stream_base = static_cast<std::uint16_t>(read.number("--stream-base", w.stream_base, 0, 0, Tag::streams - 1));
  read.also(traffic.check());
}

// What a second process must be told to make the same frames.
std::vector<std::string> traffic_words(const Words& w) {
  const std::pair<const char*, const std::string&> given[] = {
      {"--size", w.size},       {"--seed", w.seed},   {"--proto", w.proto}, {"--src", w.src},
      {"--dst", w.dst},         {"--sport", w.sport}, {"--dport", w.dport}, {"--src-mac", w.src_mac},
      {"--dst-mac", w.dst_mac}, {"--vlan", w.vlan},   {"--batch", w.batch}, {"--stream-base", w.stream_base}};
  std::vector<std::string> words;
  for (const auto& [option, value] : given)
    if (!value.empty()) words.push_back(fmt::format("{}={}", option, value));
  if (w.no_tag) words.emplace_back("--no-tag");
  return words;
}

std::string loops_here() {
  std::string names;
  for (const auto& kernel : short_kernels()) names += fmt::format("{}{}", names.empty() ? "" : ", ", kernel.name);
  return names;
}

double read_share(Reader& read, std::string_view option, const std::string& word, double otherwise, double least) {
  if (word.empty()) return otherwise;
  const auto share = parse_fraction(word);
  if (share && *share >= least && *share <= 0.5) return *share;
  read.refuse(option, word, share ? "out of range" : "not a share", "such as 0.1% or 0.001");
  return otherwise;
}

std::chrono::nanoseconds read_duration(Reader& read, std::string_view option, const std::string& word,
                                       std::chrono::nanoseconds otherwise) {
  if (word.empty()) return otherwise;
  const auto time = parse_duration(word);
  if (time && time->count() > 0 && *time <= longest_run) return *time;
  read.refuse(option, word, time ? "out of range" : "not a time", "above 0 and up to a year: 10, 10s, 500ms, 2min");
  return otherwise;
}

void read_rfc2544(Reader& read, const Words& w, Options& options) {
  Rfc2544& test = options.rfc2544;
  if (!w.size.empty()) read.refuse("--size", w.size, "a list of sizes is asked for", "--sizes 64,1518");
  if (!w.sizes.empty()) {
    test.sizes.clear();
    for (const auto& word : CLI::detail::split(w.sizes, ','))
      if (auto sizes = Sizes::parse(word); sizes && sizes->lengths().size() == 1)
        test.sizes.push_back(sizes->largest() + fcs);
      else
        read.refuse("--sizes", w.sizes, fmt::format("\"{}\" is not a size", word), "64,512,1518");
  }
  if (!w.tests.empty() && !test.parse_tests(w.tests))
    read.refuse("--tests", w.tests, "not known", "throughput, latency, loss, back-to-back or all");
  test.trial = read_duration(read, "--trial", w.trial, test.trial);
  // A shorter trial makes the one of latency as short, unless that is given.
  test.latency_trial =
      read_duration(read, "--latency-trial", w.latency_trial, w.trial.empty() ? test.latency_trial : test.trial);
  test.residual = read_duration(read, "--residual", w.residual, test.residual);
  test.pause = read_duration(read, "--pause", w.pause, test.pause);
  test.latency_trials =
      static_cast<unsigned>(read.number("--latency-trials", w.latency_trials, test.latency_trials, 1, 1000));
  test.bursts = static_cast<unsigned>(read.number("--bursts", w.bursts, test.bursts, 1, 1000));
  test.most = read.number("--max-rate", w.max_rate, 0, 1, most_rate);
  test.resolution = read_share(read, "--resolution", w.resolution, test.resolution, 1e-6);
  test.tolerated = read_share(read, "--tolerate", w.tolerate, 0, 0);
  if (!options.traffic.tag) read.refuse("--no-tag", "", "loss is told by the tags", "a size with room for them");
}

// What only frames made here have; given with --from, it would count for nothing.
std::optional<std::string_view> option_of_made_frames(const Words& w) {
  const std::pair<std::string_view, bool> given[] = {{"--size", !w.size.empty()},
                                                     {"--flows", !w.flows.empty()},
                                                     {"--order", !w.order.empty()},
                                                     {"--proto", !w.proto.empty()},
                                                     {"--src", !w.src.empty()},
                                                     {"--dst", !w.dst.empty()},
                                                     {"--sport", !w.sport.empty()},
                                                     {"--dport", !w.dport.empty()},
                                                     {"--vlan", !w.vlan.empty()},
                                                     {"--no-tag", w.no_tag},
                                                     {"--stream-base", !w.stream_base.empty()}};
  for (const auto& [option, is_given] : given)
    if (is_given) return option;
  return std::nullopt;
}

void read_replay(Reader& read, const Words& w, Options& options) {
  if (w.from.empty()) {
    for (const auto& [option, is_given] : {std::pair{"--timing", !w.timing.empty()},
                                           std::pair{"--loop", !w.loop.empty()}, std::pair{"--map", !w.maps.empty()}})
      if (is_given) read.refuse(option, "", "of which capture?", "--from FILE");
    return;
  }
  if (const auto option = option_of_made_frames(w))
    read.refuse("--from", w.from, fmt::format("{} is for frames that are made here", *option),
                "--map, --src-mac and --dst-mac change those of a capture");
  Replay replay;
  replay.file = w.from;
  replay.loops = read.number("--loop", w.loop, 1, 0, UINT32_MAX);
  if (options.src_mac_given) replay.rewriting.src_mac = options.traffic.src_mac;
  if (options.dst_mac_given) replay.rewriting.dst_mac = options.traffic.dst_mac;
  for (const auto& map : w.maps) read.take(AddressMap::parse(map), replay.rewriting.maps.emplace_back());
  if (w.timing.empty() ? !options.rate.limited() && w.rate != "line" : w.timing == "original") {
    replay.factor = 1;
  } else if (!w.timing.empty() && w.timing != "full") {
    const auto factor = parse_fraction(w.timing);
    if (factor && *factor >= 0.001 && *factor <= 1e6)
      replay.factor = *factor;
    else
      read.refuse("--timing", w.timing, "not a factor from 0.001 to 1,000,000", "original, 2 or full");
  }
  if (!w.timing.empty() && options.rate.limited())
    read.refuse("--timing", w.timing, "--rate says another", "one of the two");
  if (replay.factor > 0)
    options.rate_words = replay.factor == 1 ? "as recorded" : fmt::format("{} times as recorded", replay.factor);
  options.replay = std::move(replay);
}

void read_rate(Reader& read, const Words& w, Options& options) {
  Rate& rate = options.rate;
  if (!w.rate.empty()) read.take(Rate::parse(w.rate), rate);
  if (!w.burst.empty()) read.also(rate.parse_burst(w.burst));
  rate.poisson = w.gaps == "poisson";
  rate.seed = options.traffic.seed;
  if (rate.poisson && (!rate.limited() || rate.burst > 1))
    read.refuse("--gaps", w.gaps, rate.burst > 1 ? "a burst has no gaps" : "about which rate?", "--rate 1M");
  if (w.expect_rate && !rate.limited() && w.from.empty())
    read.refuse("--expect-rate", "", "no rate was asked for", "--rate 1M or --burst 32@1ms");
  options.rate_words = w.burst.empty()  ? w.rate
                       : w.rate.empty() ? w.burst
                                        : fmt::format("{}, {} together", w.rate, w.burst);
}

Result<Options> make_options(const Words& w, Command command) {
  Options options;
  Reader read;
  options.command = command;
  options.tx_port = w.tx;
  options.rx_port = w.rx;
  if (command != Command::rx) read_traffic(read, w, options);
  read_rate(read, w, options);
  read_replay(read, w, options);
  options.count = read.number("--count", w.count, UINT64_MAX, 1, most_count);
  options.duration = read_duration(read, "--duration", w.duration,
                                   command == Command::table ? std::chrono::seconds(1) : std::chrono::seconds(0));
  options.batch = read.number("--batch", w.batch, 64, 1, Generator::most_batch);
  if (!w.cpus.empty()) read.take(tools::parse_cpus(w.cpus), options.cpus);
  options.threads = w.threads;
  options.verify = command == Command::rx ? w.verify : !w.no_verify;
  options.write = w.write;
  if (command == Command::table) options.traffic_words = traffic_words(w);
  if (command == Command::rfc2544) read_rfc2544(read, w, options);
  if (!w.loops.empty() && !choose_short_kernel(w.loops))
    read.refuse("--loops", w.loops, "not among those that run on this processor", loops_here());
  options.json = w.json;
  options.say_ready = w.say_ready;
  options.expect.sent = read.optional_number("--expect-sent", w.expect_sent);
  options.expect.received = read.optional_number("--expect-received", w.expect_received);
  options.expect.lost = read.optional_number("--expect-lost", w.expect_lost);
  options.expect.clean = w.expect_clean;
  options.expect.rate = w.expect_rate;
  if (command == Command::table && options.tx_port.empty() != options.rx_port.empty())
    read.refuse("table", options.tx_port.empty() ? "--rx " + w.rx : "--tx " + w.tx, "a table needs both ports, or none",
                "--tx veth0 --rx veth1; none: in memory");
  if (read.error()) return std::unexpected(std::move(*read.error()));
  return options;
}

}  // namespace

Result<std::optional<Options>> parse_options(int count, const char* const* arguments) {
  CLI::App app{
      "Send, receive and count packets\n\nEvery frame is accounted for: sent, kept, or dropped under a named "
      "reason. PORT is scheme:name?key=value; docs/ports.md lists them.",
      "io_gen"};
  app.footer("io_gen table\nio_gen both pipe:x pipe:x --count 1M --size imix --flows 1000 --expect-clean");
  tools::add_help(app);
  Words words;
  const Commands commands = add_commands(app, words);
  // CLI11 says of an unknown command only that one is required.
  if (count > 1 && arguments[1][0] != '-' && arguments[1][0] != '\0' && !is_command(app, arguments[1]))
    return fail(Error::Kind::usage, "command line", "there is no command {}", arguments[1])
        .hint("tx, rx, both, table or rfc2544; see `io_gen --help`");
  const auto is_to_run =
      tools::parse(app, count, arguments, "`io_gen --help` and `io_gen COMMAND --help` list the options");
  if (!is_to_run) return std::unexpected(is_to_run.error());
  if (!*is_to_run) return std::nullopt;
  const Command command = commands.tx->parsed()      ? Command::tx
                          : commands.rx->parsed()    ? Command::rx
                          : commands.both->parsed()  ? Command::both
                          : commands.table->parsed() ? Command::table
                                                     : Command::rfc2544;
  auto options = make_options(words, command);
  if (!options) return std::unexpected(std::move(options.error()));
  return std::optional(std::move(*options));
}

}  // namespace efio::io_gen
