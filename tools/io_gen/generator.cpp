#include "tools/io_gen/generator.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "efio/checksum.h"
#include "efio/fail.h"
#include "tools/io_gen/tag.h"

namespace efio::io_gen {

namespace {

using efnet::bytes_detail::swapped;

template <class T>
[[gnu::always_inline]] inline void put(std::byte* at, T value) noexcept {
  std::memcpy(at, &value, sizeof value);
}

// A partial sum folded and complemented, as it stands in the frame.
[[gnu::always_inline]] inline std::uint16_t finish(std::uint64_t sum) noexcept {
  const std::uint32_t folded = checksum_detail::fold32(sum);
  return static_cast<std::uint16_t>(~((folded + std::rotl(folded, 16)) >> 16));
}

std::uint32_t ports_word(const Traffic& traffic, std::uint16_t sport, std::uint16_t dport) {
  const std::uint16_t second = traffic.transport == Transport::icmp ? std::uint16_t{0} : dport;
  return swapped(static_cast<std::uint32_t>(std::uint32_t{sport} << 16 | second));
}

}  // namespace

Result<Generator> Generator::create(const Traffic& traffic) {
  if (auto ok = traffic.check(); !ok) return std::unexpected(ok.error());
  Generator made;
  made.template_ = FrameTemplate::of(traffic);
  for (const auto length : traffic.sizes.lengths())
    made.forms_.push_back({length, swapped(made.template_.ip_length(length)),
                           swapped(made.template_.udp_length(length)), made.template_.ip_sum(length),
                           made.template_.transport_sum(length)});
  made.tag_ = traffic.tag;
  made.udp_ = traffic.transport == Transport::udp;
  made.fast_ = made.template_.layout == udp4_layout && traffic.tag && made.forms_.size() == 1 &&
               made.forms_[0].length == smallest_frame;
  made.stream_base_ = traffic.stream_base;
  made.random_ = traffic.random && traffic.flows > 1;
  made.random_state_ = traffic.seed;
  made.flow_count_ = traffic.flows;
  made.flows_.reset(new (std::nothrow) Flow[traffic.flows]);
  made.high_.reset(new (std::nothrow) std::uint16_t[Tag::streams]());
  if (!made.flows_ || !made.high_)
    return fail(Error::Kind::memory, fmt::format("--flows {}", traffic.flows), "no memory for {} bytes",
                traffic.flows * sizeof(Flow))
        .hint("fewer flows");

  // Flow numbers count in mixed radix: source address, source port, destination address, destination port.
  std::uint64_t index = 0;
  for (std::uint64_t dport = 0; dport < traffic.dport.size() && index < traffic.flows; ++dport)
    for (std::uint64_t dst = 0; dst < traffic.dst.count && index < traffic.flows; ++dst)
      for (std::uint64_t sport = 0; sport < traffic.sport.size() && index < traffic.flows; ++sport)
        for (std::uint64_t src = 0; src < traffic.src.count && index < traffic.flows; ++src)
          made.flows_[index++] = {swapped(traffic.src.last_word(src)), swapped(traffic.dst.last_word(dst)),
                                  ports_word(traffic, traffic.sport.at(sport), traffic.dport.at(dport)), 0};
  return made;
}

std::size_t Generator::streams() const noexcept { return std::min<std::uint64_t>(flow_count_, Tag::streams); }

// The flows of the next n frames, and their lines on their way into the cache.
void Generator::choose_flows(std::size_t n) noexcept {
  if (flow_count_ == 1) return;
  if (random_) {
    std::uint64_t state = random_state_;
    for (std::size_t i = 0; i < n; ++i) {
      state = state * 6364136223846793005U + 1442695040888963407U;  // Knuth's MMIX constants
      chosen_[i] = static_cast<std::uint32_t>(((state >> 32) * flow_count_) >> 32);
      __builtin_prefetch(&flows_[chosen_[i]], 1);
    }
    random_state_ = state;
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    chosen_[i] = static_cast<std::uint32_t>(next_flow_);
    next_flow_ = next_flow_ + 1 == flow_count_ ? 0 : next_flow_ + 1;
  }
}

template <bool fast, bool long_sequences>
void Generator::fill_all(Slot* slots, std::size_t n, std::uint64_t time) noexcept {
  const Layout at = fast ? udp4_layout : template_.layout;
  const bool udp = fast || udp_;
  const bool tagged = fast || tag_;
  const std::uint64_t time_word = swapped(time);
  const std::uint64_t time_sum = tagged ? checksum_word(time) : 0;
  const std::size_t forms = forms_.size();
  const std::size_t copied = fast ? 64 : template_.headers + (tagged ? Tag::size : 0);

  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t number = chosen_[i];
    const Flow& flow = flows_[number];
    Slot& slot = slots[i];
    std::byte* const frame = slot.buffer + slot.offset;
    const Form& form = forms_[form_];
    slot.length = fast ? static_cast<std::uint32_t>(smallest_frame) : form.length;
    std::memcpy(frame, template_.bytes.data(), copied);
    if constexpr (!fast) {
      std::memset(frame + copied, 0, form.length - copied);
      put(frame + at.ip_length, form.ip_length);
      if (udp) put(frame + at.udp_length, form.udp_length);
      form_ = form_ + 1 == forms ? 0 : form_ + 1;
    }
    put(frame + at.src, flow.src);
    put(frame + at.dst, flow.dst);
    put(frame + at.ports, flow.ports);

    const std::uint64_t addresses = std::uint64_t{flow.src} + flow.dst;
    if (fast || at.ip_checksum != 0) put(frame + at.ip_checksum, finish(form.ip_sum + addresses));
    std::uint64_t sum = form.transport_sum + flow.ports + (at.addresses_in_checksum ? addresses : 0);
    if (tagged) {
      const std::size_t stream = number % Tag::streams;
      const std::uint32_t low = flows_[stream].next++;
      std::uint64_t high = 0;
      if constexpr (long_sequences) {
        high = high_[stream];
        if (low == UINT32_MAX) [[unlikely]]
          ++high_[stream];
      }
      // The 16 bytes from the stream's number on: stream, sequence, the first eight bytes of the time but two.
      const auto name = swapped(static_cast<std::uint16_t>(stream + stream_base_));
      const auto high_word = swapped(static_cast<std::uint16_t>(high));
      const auto low_word = swapped(low);
      put(frame + at.payload + 2, name);
      put(frame + at.payload + 4, high_word);
      put(frame + at.payload + 6, low_word);
      put(frame + at.payload + 10, time_word);
      sum += time_sum + name + high_word + low_word;
    }
    const std::uint16_t checksum = finish(sum);
    put(frame + at.checksum, udp && checksum == 0 ? std::uint16_t{0xFFFF} : checksum);  // RFC 768: 0 means none
  }
}

void Generator::fill(const TxBatch& batch) noexcept {
  const std::size_t n = batch.size();
  if (n == 0) return;
  choose_flows(n);
  made_ += n;
  const bool long_sequences = made_ > UINT32_MAX;
  const std::uint64_t time = batch[0].time;
  if (fast_)
    long_sequences ? fill_all<true, true>(batch.begin(), n, time) : fill_all<true, false>(batch.begin(), n, time);
  else
    long_sequences ? fill_all<false, true>(batch.begin(), n, time) : fill_all<false, false>(batch.begin(), n, time);
}

}  // namespace efio::io_gen
