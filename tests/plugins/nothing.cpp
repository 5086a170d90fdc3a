// A plugin that does nothing, as a shared object; it takes an argument, to show that arguments arrive.
#include "efnet/plugins/plugin.h"

namespace {

class Nothing final : public efnet::Plugin {
 public:
  std::string_view name() const noexcept override { return "nothing"; }
};

efio::Result<std::unique_ptr<efnet::Plugin>> create(std::string_view arguments) {
  if (!arguments.empty())
    return std::unexpected(efio::Error{efio::Error::Kind::usage, 0, "plugin nothing", std::string(arguments), ""});
  return std::make_unique<Nothing>();
}

}  // namespace

EFNET_PLUGIN("does nothing", create);
