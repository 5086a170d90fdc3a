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

// The partial of eight bytes as they stand in the frame.
[[gnu::always_inline]] inline std::uint64_t sum_of(std::uint64_t word) noexcept {
  return (word & 0xFFFF'FFFF) + (word >> 32);
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
  made.short_ = std::endian::native == std::endian::little && made.template_.layout == udp4_layout && traffic.tag &&
                made.forms_.size() == 1 && made.forms_[0].length == smallest_frame;
  made.stream_base_ = traffic.stream_base;
  made.random_ = traffic.random && traffic.flows > 1;
  made.random_state_ = traffic.seed;
  made.flow_count_ = traffic.flows;
  constexpr std::size_t a_line = 64;
  made.flows_.reset(static_cast<FlowFields*>(
      std::aligned_alloc(a_line, (traffic.flows * sizeof(FlowFields) + a_line - 1) / a_line * a_line)));
  made.high_.reset(new (std::nothrow) std::uint16_t[Tag::streams]());
  if (!made.flows_ || !made.high_)
    return fail(Error::Kind::memory, fmt::format("--flows {}", traffic.flows), "no memory for {} bytes",
                traffic.flows * sizeof(FlowFields))
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

// The next number of each chosen flow's stream, with the stream's own before it, as in Tag::name.
template <bool long_sequences>
void Generator::choose_names(std::size_t n) noexcept {
  FlowFields* const flows = flows_.get();
  std::uint16_t* const highs = high_.get();
  const std::uint32_t* const chosen = chosen_;
  std::uint64_t* const names = names_;
  const std::uint16_t base = stream_base_;
  if (flow_count_ == 1 && !long_sequences) {  // one number after the other, without the way through memory
    const std::uint64_t first = Tag::name(base, flows[0].next);
    for (std::size_t i = 0; i < n; ++i) names[i] = first + i;
    flows[0].next += static_cast<std::uint32_t>(n);
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t index = chosen[i] % Tag::streams;
    const std::uint32_t low = flows[index].next++;
    std::uint64_t high = 0;
    if constexpr (long_sequences) {
      high = highs[index];
      if (low == UINT32_MAX) [[unlikely]]
        ++highs[index];
    }
    names[i] = Tag::name(static_cast<std::uint16_t>(index + base), high << 32 | low);
  }
}

void Generator::fill_short(Slot* slots, std::size_t n, std::uint64_t time) noexcept {
  const auto fill = short_kernel().fill;
  ShortTemplate frame;
  std::memcpy(frame.words.data(), template_.bytes.data(), sizeof frame.words);
  std::memcpy(reinterpret_cast<std::byte*>(frame.words.data()) + udp4_layout.payload + 10, &time, sizeof time);
  frame.ip_sum = forms_[0].ip_sum;
  frame.transport_sum = forms_[0].transport_sum + sum_of(time);
  fill(frame, slots, flows_.get(), chosen_, names_, n);
}

// Any layout and size.
void Generator::fill_any(Slot* slots, std::size_t n, std::uint64_t time) noexcept {
  const Layout at = template_.layout;
  const std::size_t copied = template_.headers + (tag_ ? Tag::size : 0);
  for (std::size_t i = 0; i < n; ++i) {
    const FlowFields& flow = flows_[chosen_[i]];
    const Form& form = forms_[form_];
    form_ = form_ + 1 == forms_.size() ? 0 : form_ + 1;
    std::byte* const frame = slots[i].buffer + slots[i].offset;
    slots[i].length = form.length;
    std::memcpy(frame, template_.bytes.data(), copied);
    std::memset(frame + copied, 0, form.length - copied);
    put(frame + at.ip_length, form.ip_length);
    if (udp_) put(frame + at.udp_length, form.udp_length);
    put(frame + at.src, flow.src);
    put(frame + at.dst, flow.dst);
    put(frame + at.ports, flow.ports);

    const std::uint64_t addresses = std::uint64_t{flow.src} + flow.dst;
    if (at.ip_checksum != 0) put(frame + at.ip_checksum, finish(form.ip_sum + addresses));
    std::uint64_t sum = form.transport_sum + flow.ports + (at.addresses_in_checksum ? addresses : 0);
    if (tag_) {
      const std::uint64_t name = swapped(names_[i]);
      put(frame + at.payload + 2, name);
      put(frame + at.payload + 10, time);
      sum += sum_of(name) + sum_of(time);
    }
    const std::uint16_t checksum = finish(sum);
    put(frame + at.checksum, udp_ && checksum == 0 ? std::uint16_t{0xFFFF} : checksum);  // RFC 768: 0 means none
  }
}

void Generator::fill(const TxBatch& batch) noexcept {
  const std::size_t n = batch.size();
  if (n == 0) return;
  if (read_elsewhere_) batch.prefetch();
  choose_flows(n);
  made_ += n;
  if (made_ > UINT32_MAX)
    choose_names<true>(n);
  else
    choose_names<false>(n);
  const std::uint64_t time = swapped(batch[0].time);
  if (short_ && batch.queue().capacity() >= sizeof(ShortTemplate::words))
    fill_short(batch.begin(), n, time);
  else
    fill_any(batch.begin(), n, time);
}

}  // namespace efio::io_gen
