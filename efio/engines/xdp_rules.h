// Internal: which frames an xdp: port takes from the host, from words to what the XDP program looks up.
//
//   all | none | TERM[,TERM…]      taken is what fits a term, unless it fits one that begins with !
//   TERM       [!]CONDITION[+CONDITION…]      all of them
//   CONDITION  arp ip ip6 icmp icmp6 udp tcp sctp vlan untagged frag, or with a value: ip:PREFIX ip6:PREFIX arp:PREFIX
//              src:PREFIX dst:PREFIX udp:PORTS tcp:PORTS sctp:PORTS (destination) sport:PORTS dport:PORTS port:PORTS
//              proto:N vlan:IDS ether:TYPE mac:ADDRESS (destination)
//
// docs/ports.md says it for users.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "efio/result.h"

struct efio_xdp_rule;

namespace efio {

class XdpRules {
 public:
  // Errors: usage, with the word that is wrong and what would be right; too many rules.
  static Result<XdpRules> parse(std::string_view text, const std::string& attempted);

  XdpRules();  // all
  XdpRules(const XdpRules&);
  XdpRules(XdpRules&&) noexcept;
  XdpRules& operator=(const XdpRules&);
  XdpRules& operator=(XdpRules&&) noexcept;
  ~XdpRules();

  const std::string& text() const noexcept { return text_; }
  bool everything() const noexcept { return everything_; }  // without looking at the frame
  // In the order in which they are tried; the first that fits decides, and a frame that none fits is the host's.
  const std::vector<efio_xdp_rule>& rules() const noexcept { return rules_; }

 private:
  std::string text_ = "all";
  bool everything_ = true;
  std::vector<efio_xdp_rule> rules_;
};

}  // namespace efio
