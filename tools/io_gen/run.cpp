#include "tools/io_gen/run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "efio/clock.h"
#include "efio/fail.h"
#include "tools/common/cpus.h"
#include "tools/common/exit_code.h"
#include "tools/io_gen/pacer.h"
#include "tools/io_gen/ports.h"
#include "tools/io_gen/replayer.h"
#include "tools/io_gen/sender.h"

namespace efio::io_gen {

namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds longest_sleep = std::chrono::milliseconds(100);  // until a stop is seen
constexpr nanoseconds live_period = std::chrono::seconds(1);
constexpr std::uint64_t longest_rest_ns = 3'000'000'000;
constexpr std::uint64_t busy_ns = 20'000;  // look so long before sleeping

double seconds_between(std::uint64_t from, std::uint64_t to) { return static_cast<double>(to - from) / 1e9; }

}  // namespace

Result<void> Run::prepare() {
  if (auto ok = tools::check_cpus(options_.cpus); !ok) return ok;
  if (receives()) {
    auto port = Port::open(options_.rx_port, {.direction = Direction::rx});
    if (!port) return std::unexpected(port.error());
    rx_port_ = std::move(*port);
    checker_.emplace(options_.command == Command::both ? Sequences::Start::zero : Sequences::Start::first_seen,
                     options_.verify);
    checker_->measure_delays();
    if (options_.command == Command::both && options_.threads == 2) checker_->expect_writer_elsewhere();
  }
  if (!options_.write.empty()) {
    auto port = open_capture(options_.write, Direction::tx);
    if (!port) return std::unexpected(port.error());
    copy_port_ = std::move(*port);
  }
  if (sends())
    if (auto ok = open_sender(); !ok) return ok;
  if (receives()) {
    const auto most = options_.command == Command::rx ? options_.count : UINT64_MAX;
    receiver_.emplace(*rx_port_, *checker_, most, options_.batch, copy_port_ ? &copy_port_->tx() : nullptr);
  }
  return {};
}

Result<void> Run::open_sender() {
  if (const auto& replay = options_.replay) {
    auto from = open_capture(replay->file, Direction::rx, fmt::format("timing=full&loop={}", replay->loops));
    if (!from) return std::unexpected(from.error());
    auto port = Port::open(options_.tx_port, {.direction = Direction::tx});
    if (!port) return std::unexpected(port.error());
    from_port_ = std::move(*from), tx_port_ = std::move(*port);
    sender_ = std::make_unique<Replayer>(from_port_->rx(), tx_port_->tx(), *replay, options_.rate, options_.count,
                                         options_.batch);
    return {};
  }
  auto opened = open_for_sending(options_.tx_port, options_);
  if (!opened) return std::unexpected(opened.error());
  tx_port_ = std::move(opened->port);
  generator_ = std::move(opened->generator);
  if (options_.command == Command::both && options_.threads == 2) generator_->expect_reader_elsewhere();
  sender_ = std::make_unique<Sender>(tx_port_->tx(), *generator_, options_.rate, options_.count, options_.batch);
  return {};
}

Result<Poller> Run::rx_poller() {
  auto poller = Poller::create({.busy_poll = nanoseconds(busy_ns)});
  if (!poller) return poller;
  for (std::size_t i = 0; i < rx_port_->rx_queues(); ++i)
    if (auto ok = poller->add(rx_port_->rx(i)); !ok) return std::unexpected(ok.error());
  return poller;
}

// --- the loops ---

Result<void> Run::send() {
  auto poller = Poller::create({.busy_poll = nanoseconds(busy_ns)});
  if (!poller) return std::unexpected(poller.error());
  if (auto ok = poller->add(tx_port_->tx()); !ok) return ok;
  auto frames = Poller::create();  // of a capture that comes by a pipe
  if (!frames) return std::unexpected(frames.error());
  if (from_port_)
    if (auto ok = frames->add(from_port_->rx()); !ok) return ok;
  send_start_ = Clock::monotonic();
  while (!stop_.requested() && !sender_->done()) {
    if (sender_->step() > 0) continue;
    if (sender_->idle() > 0)
      wait_for(sender_->idle());
    else if (!sender_->done())
      (sender_->starved() ? *frames : *poller).wait(longest_sleep);
  }
  finish_sending();
  return {};
}

void Run::finish_sending() {
  outcome_.behind = sender_->behind(Clock::monotonic());
  tx_port_->drain();
  send_end_ = Clock::monotonic();
  sent_all_.store(true, std::memory_order_release);
}

Result<void> Run::receive() {
  auto poller = rx_poller();
  if (!poller) return std::unexpected(poller.error());
  while (!stop_.requested() && !receiver_->done()) {
    if (receiver_->step() > 0) continue;
    if (options_.command == Command::both && sent_all_.load(std::memory_order_acquire)) break;
    if (!receiver_->done()) poller->wait(longest_sleep);
  }
  if (options_.command == Command::both) {
    while (!sent_all_.load(std::memory_order_acquire))
      if (receiver_->step() == 0) std::this_thread::yield();
    receive_rest();
  }
  return {};
}

// What was sent is on its way: until all of it is here, or nothing comes any more.
void Run::receive_rest() {
  const std::uint64_t sent = tx_port_->stats().tx.sent;
  const std::uint64_t start = Clock::monotonic();
  std::uint64_t newest = start;
  const auto all_here = [&] {
    const std::uint64_t frames = checker_->counts().frames;
    return frames >= sent && frames - checker_->sequences().counts().duplicated >= sent;
  };
  while (!receiver_->done() && !all_here()) {
    const std::uint64_t now = Clock::monotonic();
    if (receiver_->step() > 0)
      newest = now;
    else if (now - newest > static_cast<std::uint64_t>(options_.quiet.count()))
      return;
    if (now - start > longest_rest_ns) return;
  }
}

Result<void> Run::both_in_turn() {
  auto poller = rx_poller();
  if (!poller) return std::unexpected(poller.error());
  if (auto ok = poller->add(tx_port_->tx()); !ok) return ok;
  send_start_ = Clock::monotonic();
  while (!stop_.requested() && !sender_->done() && !receiver_->done()) {
    const std::size_t moved = sender_->step() + receiver_->step();
    if (moved > 0) continue;
    if (sender_->idle() > 0)
      wait_for(std::min<std::uint64_t>(sender_->idle(), busy_ns));
    else if (!sender_->done() && !receiver_->done())
      poller->wait(longest_sleep);
  }
  finish_sending();
  receive_rest();
  return {};
}

// --- around them ---

void Run::live(std::uint64_t start) {
  const std::uint64_t now = Clock::monotonic();
  const auto tx = tx_port_ ? std::optional(tx_port_->stats().tx) : std::nullopt;
  const auto rx = rx_port_ ? std::optional(rx_port_->stats().rx) : std::nullopt;
  const auto text =
      live_text(seconds_between(start, now), seconds_between(live_before_, now), tx, tx_before_, rx, rx_before_);
  fmt::print(stderr, "\r{}\x1b[K", text);
  std::fflush(stderr);
  tx_before_ = tx, rx_before_ = rx, live_before_ = now;
}

// Until all threads are done, the time is up or a signal comes.
void Run::watch(std::uint64_t start) {
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto limit =
      options_.duration.count() == 0 ? UINT64_MAX : static_cast<std::uint64_t>(options_.duration.count());
  live_before_ = start;
  bool shown = false;
  while (working_.load() > 0 && !signals_->signalled()) {
    const std::uint64_t elapsed = Clock::monotonic() - start;
    if (elapsed >= limit) break;
    signals_->wait(std::min(
        live_period, nanoseconds(static_cast<std::int64_t>(std::min<std::uint64_t>(limit - elapsed, INT64_MAX)))));
    if (terminal && Clock::monotonic() - live_before_ >= static_cast<std::uint64_t>(live_period.count())) {
      live(start);
      shown = true;
    }
  }
  outcome_.interrupted = signals_->signalled();
  stop_.request();
  if (shown) fmt::print(stderr, "\n");
}

void Run::perform() {
  std::vector<Work> works;
  if (options_.command == Command::both && options_.threads == 1)
    works = {&Run::both_in_turn};
  else {
    if (sends()) works.push_back(&Run::send);
    if (receives()) works.push_back(&Run::receive);
  }
  signals_.emplace();
  if (options_.say_ready) tools::remark("io_gen", "ready");
  working_.store(static_cast<unsigned>(works.size()));
  const std::uint64_t start = Clock::monotonic();
  std::vector<Result<void>> results(works.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < works.size(); ++i)
      threads.emplace_back([this, i, work = works[i], &results] {
        results[i] = tools::pin_thread(options_.cpus, i);
        if (results[i]) results[i] = (this->*work)();
        if (!results[i]) stop_.request(), sent_all_.store(true);
        working_.fetch_sub(1);
        signals_->notify();
      });
    watch(start);
  }
  signals_.reset();
  outcome_.elapsed = seconds_between(start, Clock::monotonic());
  for (auto& result : results) collect(std::move(result));
  collect_errors();
  judge();
}

// Each error once: what a queue failed of may be what closing fails of, too.
void Run::collect(Result<void> result) {
  if (result) return;
  const auto message = result.error().message();
  const auto known = [&](const Error& error) { return error.message() == message; };
  if (std::ranges::none_of(outcome_.errors, known)) outcome_.errors.push_back(std::move(result.error()));
}

// What queues failed of, and what only closing tells (a file that could not be completed).
void Run::collect_errors() {
  for (auto* port : {&from_port_, &tx_port_, &rx_port_, &copy_port_}) {
    if (!*port) continue;
    for (std::size_t i = 0; i < (*port)->tx_queues(); ++i) collect((*port)->tx(i).status());
    for (std::size_t i = 0; i < (*port)->rx_queues(); ++i) collect((*port)->rx(i).status());
    collect((*port)->close());
  }
}

void Run::judge() {
  Outcome& o = outcome_;
  if (checker_) {
    if (generator_ && options_.traffic.tag)
      for (std::size_t i = 0; i < generator_->streams(); ++i)
        checker_->sequences().expect_until(generator_->stream(i), generator_->next_sequence(i));
    o.sequence = checker_->sequences().counts();
  }
  if (tx_port_) {
    const auto tx = tx_port_->stats().tx;
    o.tx_port = &*tx_port_;
    if (generator_) o.generator = &*generator_;
    o.rate_asked = options_.rate_words;
    o.gaps = sender_->gaps() ? &*sender_->gaps() : nullptr;
    o.tx = {tx.sent, tx.bytes, seconds_between(send_start_, send_end_)};
  }
  if (rx_port_) {
    const auto rx = rx_port_->stats().rx;
    o.rx_port = &*rx_port_;
    o.checker = &*checker_;
    o.rx = {rx.delivered, rx.bytes, seconds_between(receiver_->first(), receiver_->newest())};
  }
  if (copy_port_) o.copy_port = &*copy_port_;
  if (from_port_) o.from_port = &*from_port_;
}

int Run::report() {
  const Outcome& o = outcome_;
  const auto text = options_.json ? report_json(o).dump() + "\n" : report_text(o);
  return tools::end_run("io_gen", text, not_met(options_, o), o.errors);
}

int run(const Options& options) {
  Run run(options);
  if (auto ready = run.prepare(); !ready) return tools::complain("io_gen", ready.error());
  run.perform();
  return run.report();
}

}  // namespace efio::io_gen
