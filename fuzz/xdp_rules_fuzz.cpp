// What xdp: takes, from words to rules: any text is refused with an error that says so, or becomes rules that can fit.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "efio/engines/xdp_kernel.h"
#include "efio/engines/xdp_rules.h"

namespace {

void expect(bool condition) {
  if (!condition) std::abort();
}

void check(const efio_xdp_rule& rule) {
  for (int word = 0; word < EFIO_XDP_WORDS; ++word) expect((rule.value[word] & ~rule.mask[word]) == 0);
  for (const auto& range : {rule.vlan, rule.source_port, rule.destination_port}) expect(range.low <= range.high);
  expect(rule.take <= 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = efio::XdpRules::parse(text, "open");
  if (!parsed) {
    expect(parsed.error().kind == efio::Error::Kind::usage && parsed.error().why.starts_with("take="));
    return 0;
  }
  const auto& rules = parsed->rules();
  expect(rules.size() <= EFIO_XDP_RULES && (!parsed->everything() || rules.empty()));
  // What is never taken comes before what is.
  for (std::size_t i = 0; i < rules.size(); ++i) {
    check(rules[i]);
    expect(i == 0 || rules[i].take >= rules[i - 1].take);
  }
  return 0;
}
