#include "efnet/nat44/verdict.h"

namespace efnet {
namespace {

struct Row {
  std::string_view name;
  efio::DropReason reason;
  std::string_view text;
};
constexpr std::array<Row, nat_verdicts> rows{{
#define EFNET_X(name, reason, text) Row{#name, efio::DropReason::reason, text},
    EFNET_NAT_VERDICTS(EFNET_X)
#undef EFNET_X
}};

const Row& row(NatVerdict verdict) noexcept {
  const auto at = static_cast<std::size_t>(verdict);
  return rows[at < rows.size() ? at : 0];
}

}  // namespace

std::string_view name(NatVerdict verdict) noexcept { return row(verdict).name; }
std::string_view describe(NatVerdict verdict) noexcept { return row(verdict).text; }
efio::DropReason drop_reason(NatVerdict verdict) noexcept { return row(verdict).reason; }

}  // namespace efnet
