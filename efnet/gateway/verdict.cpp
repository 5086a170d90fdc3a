#include "efnet/gateway/verdict.h"

namespace efnet {
namespace {

struct Row {
  std::string_view name;
  efio::DropReason reason;
  std::string_view text;
};
constexpr std::array<Row, gateway_drops> rows{{
#define EFNET_X(name, reason, text) Row{#name, efio::DropReason::reason, text},
    EFNET_GATEWAY_DROPS(EFNET_X)
#undef EFNET_X
}};

const Row& row(GatewayDrop drop) noexcept {
  const auto at = static_cast<std::size_t>(drop);
  return rows[at < rows.size() ? at : 0];
}

}  // namespace

std::string_view name(GatewayDrop drop) noexcept { return row(drop).name; }
std::string_view describe(GatewayDrop drop) noexcept { return row(drop).text; }
efio::DropReason drop_reason(GatewayDrop drop) noexcept { return row(drop).reason; }

}  // namespace efnet
