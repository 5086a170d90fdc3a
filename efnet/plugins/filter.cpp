#include "efnet/plugins/filter.h"

#include <pcap/pcap.h>

#include "efnet/plugins/arguments.h"

namespace efnet {

struct FilterPlugin::Program {
  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { ::pcap_freecode(&code); }

  bpf_program code{};
};

FilterPlugin::FilterPlugin(std::unique_ptr<Program> program, efio::Direction gates) noexcept
    : program_(std::move(program)), gates_(gates) {}
FilterPlugin::~FilterPlugin() = default;

efio::Result<std::unique_ptr<FilterPlugin>> FilterPlugin::create(const std::string& expression, efio::Direction gates) {
  const std::unique_ptr<pcap_t, decltype(&::pcap_close)> compiler(::pcap_open_dead(DLT_EN10MB, 65535), &::pcap_close);
  if (!compiler) return efio::fail(efio::Error::Kind::memory, "plugin filter:" + expression, "no memory");
  auto program = std::make_unique<Program>();
  if (::pcap_compile(compiler.get(), &program->code, expression.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0)
    return efio::fail(efio::Error::Kind::usage, "plugin filter:" + expression, "{}", ::pcap_geterr(compiler.get()))
        .hint("pcap-filter(7) tells the language");
  return std::unique_ptr<FilterPlugin>(new FilterPlugin(std::move(program), gates));
}

efio::Result<std::unique_ptr<FilterPlugin>> FilterPlugin::parse(std::string_view text) {
  auto arguments = PluginArguments::parse("filter", text);
  if (!arguments) return std::unexpected(std::move(arguments.error()));
  const std::string gate = arguments->options().choice("gate", {"both", "in", "out"});
  if (auto known = arguments->finish(); !known) return std::unexpected(std::move(known.error()));
  if (arguments->argument().empty()) return arguments->refuse("no expression").hint("as filter:udp port 53");
  return create(arguments->argument(), gate == "in"    ? efio::Direction::rx
                                       : gate == "out" ? efio::Direction::tx
                                                       : efio::Direction::both);
}

void FilterPlugin::apply(PacketBatch& packets) const noexcept {
  pcap_pkthdr header{};
  for (const std::size_t i : packets) {
    const auto bytes = packets.bytes(i);
    header.caplen = static_cast<bpf_u_int32>(bytes.size());
    header.len = static_cast<bpf_u_int32>(packets.length(i));
    if (::pcap_offline_filter(&program_->code, &header, reinterpret_cast<const unsigned char*>(bytes.data())) == 0)
      packets.drop(i, efio::DropReason::filtered);
  }
}

void FilterPlugin::ingate(PacketBatch& packets, Gate&) noexcept {
  if (efio::receives(gates_)) apply(packets);
}
void FilterPlugin::outgate(PacketBatch& packets, Gate&) noexcept {
  if (efio::transmits(gates_)) apply(packets);
}

}  // namespace efnet
