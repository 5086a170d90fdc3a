#include "efio/engines/xdp_rules.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>

#include "efio/engines/xdp_kernel.h"
#include "efio/fail.h"

namespace efio {

namespace {

using Address = std::array<std::uint32_t, 4>;  // as on the wire; IPv4 in the first

struct Prefix {
  Address value{}, mask{};
  bool is_ipv6 = false;
};

// A term on its way to one rule, or to several: what may be the source's or the destination's becomes one of each.
struct Term {
  std::uint32_t is = 0, is_not = 0;
  std::optional<std::uint16_t> ether_type;
  std::optional<std::uint8_t> protocol;
  std::optional<std::array<std::uint8_t, 6>> mac;
  std::optional<Prefix> either, source, destination;
  std::optional<efio_xdp_range> either_port, source_port, destination_port, vlan;
};

constexpr efio_xdp_range any_number{0, UINT16_MAX};
constexpr std::uint16_t type_ipv4 = 0x0800, type_arp = 0x0806, type_ipv6 = 0x86dd;

std::optional<std::uint32_t> number(std::string_view text, std::uint32_t most, int base = 10) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

std::optional<efio_xdp_range> range(std::string_view text, std::uint32_t most) {
  const auto dash = text.find('-');
  const auto low = number(text.substr(0, dash), most);
  const auto high = dash == std::string_view::npos ? low : number(text.substr(dash + 1), most);
  if (!low || !high || *low > *high) return std::nullopt;
  return efio_xdp_range{static_cast<std::uint16_t>(*low), static_cast<std::uint16_t>(*high)};
}

std::optional<Prefix> prefix(std::string_view text) {
  const auto slash = text.find('/');
  const std::string address(text.substr(0, slash));
  Prefix result;
  std::array<std::uint8_t, 16> bytes{};
  if (::inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) result.is_ipv6 = true;
  else if (::inet_pton(AF_INET, address.c_str(), bytes.data()) != 1) return std::nullopt;
  const std::uint32_t most = result.is_ipv6 ? 128 : 32;
  const auto length = slash == std::string_view::npos ? most : number(text.substr(slash + 1), most);
  if (!length) return std::nullopt;
  std::array<std::uint8_t, 16> mask{};
  for (std::uint32_t bit = 0; bit < *length; ++bit) mask[bit / 8] = static_cast<std::uint8_t>(mask[bit / 8] | 0x80U >> bit % 8);
  // Bits behind the prefix are more likely a mistake than a wish.
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if ((bytes[i] & ~mask[i]) != 0) return std::nullopt;
  std::memcpy(result.value.data(), bytes.data(), bytes.size());
  std::memcpy(result.mask.data(), mask.data(), mask.size());
  return result;
}

std::optional<std::array<std::uint8_t, 6>> mac_address(std::string_view text) {
  std::array<std::uint8_t, 6> bytes{};
  if (text.size() != 17) return std::nullopt;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = number(text.substr(i * 3, 2), 0xff, 16);
    if (!byte || (i < 5 && text[i * 3 + 2] != ':')) return std::nullopt;
    bytes[i] = static_cast<std::uint8_t>(*byte);
  }
  return bytes;
}

std::optional<std::uint16_t> ether_type(std::string_view text) {
  const bool hexadecimal = text.starts_with("0x");
  const auto type = hexadecimal ? number(text.substr(2), UINT16_MAX, 16) : number(text, UINT16_MAX);
  if (!type || *type < 0x0600) return std::nullopt;  // below it is a length (IEEE 802.3)
  return static_cast<std::uint16_t>(*type);
}

// What a condition adds to a term; false: it says otherwise already.
template <class T>
bool settle_once(std::optional<T>& place, T value) {
  if (place) return false;
  place = value;
  return true;
}

bool add_type(Term& term, std::uint16_t type, std::uint32_t is) {
  if (term.ether_type && *term.ether_type != type) return false;
  term.ether_type = type;
  term.is |= is;
  return true;
}

bool add_protocol(Term& term, std::uint8_t protocol) {
  term.is |= EFIO_XDP_PROTOCOL;
  return settle_once(term.protocol, protocol);
}

bool add_ports(Term& term, std::optional<efio_xdp_range>& place, efio_xdp_range ports) {
  term.is |= EFIO_XDP_PORTS;
  return settle_once(place, ports);
}

enum class Value { none, optional, wanted };
enum class Outcome { done, bad_value, contradiction };

struct Condition {
  std::string_view word;
  Value value;
  std::string_view form;  // of the value, for an error
  Outcome (*add)(Term& term, std::string_view value);
};

constexpr Outcome outcome(bool agrees) { return agrees ? Outcome::done : Outcome::contradiction; }

template <std::uint8_t Protocol>
Outcome protocol_and_ports(Term& term, std::string_view value) {
  if (!add_protocol(term, Protocol)) return Outcome::contradiction;
  if (value.empty()) return Outcome::done;
  const auto ports = range(value, UINT16_MAX);
  return ports ? outcome(add_ports(term, term.destination_port, *ports)) : Outcome::bad_value;
}

template <auto Place>
Outcome ports_of(Term& term, std::string_view value) {
  const auto ports = range(value, UINT16_MAX);
  return ports ? outcome(add_ports(term, term.*Place, *ports)) : Outcome::bad_value;
}

template <auto Place>
Outcome prefix_of(Term& term, std::string_view value) {
  const auto found = prefix(value);
  return found ? outcome(settle_once(term.*Place, *found)) : Outcome::bad_value;
}

template <std::uint16_t Type, std::uint32_t Is>
Outcome type_and_prefix(Term& term, std::string_view value) {
  if (value.empty()) return outcome(add_type(term, Type, Type == type_arp ? 0 : Is));
  const auto found = prefix(value);
  if (!found || found->is_ipv6 != (Type == type_ipv6)) return Outcome::bad_value;
  return outcome(add_type(term, Type, Is) && settle_once(term.either, *found));
}

constexpr std::string_view ports_form = "a port or two with a dash, up to 65535", prefix_form = "an address, or a prefix without further bits";

constexpr Condition conditions[] = {
    {"arp", Value::optional, "an IPv4 address or prefix", type_and_prefix<type_arp, EFIO_XDP_ARP>},
    {"ip", Value::optional, "an IPv4 address or prefix without further bits", type_and_prefix<type_ipv4, EFIO_XDP_IPV4>},
    {"ip6", Value::optional, "an IPv6 address or prefix without further bits", type_and_prefix<type_ipv6, EFIO_XDP_IPV6>},
    {"src", Value::wanted, prefix_form, prefix_of<&Term::source>},
    {"dst", Value::wanted, prefix_form, prefix_of<&Term::destination>},
    {"icmp", Value::none, "",
     [](Term& term, std::string_view) {
       return outcome(add_type(term, type_ipv4, EFIO_XDP_IPV4) && add_protocol(term, IPPROTO_ICMP));
     }},
    {"icmp6", Value::none, "",
     [](Term& term, std::string_view) {
       return outcome(add_type(term, type_ipv6, EFIO_XDP_IPV6) && add_protocol(term, IPPROTO_ICMPV6));
     }},
    {"udp", Value::optional, ports_form, protocol_and_ports<IPPROTO_UDP>},
    {"tcp", Value::optional, ports_form, protocol_and_ports<IPPROTO_TCP>},
    {"sctp", Value::optional, ports_form, protocol_and_ports<IPPROTO_SCTP>},
    {"proto", Value::wanted, "an IP protocol's number, up to 255",
     [](Term& term, std::string_view value) {
       const auto protocol = number(value, UINT8_MAX);
       return protocol ? outcome(add_protocol(term, static_cast<std::uint8_t>(*protocol))) : Outcome::bad_value;
     }},
    {"sport", Value::wanted, ports_form, ports_of<&Term::source_port>},
    {"dport", Value::wanted, ports_form, ports_of<&Term::destination_port>},
    {"port", Value::wanted, ports_form, ports_of<&Term::either_port>},
    {"vlan", Value::optional, "a VLAN id or two with a dash, up to 4095",
     [](Term& term, std::string_view value) {
       term.is |= EFIO_XDP_TAGGED;
       if (value.empty()) return Outcome::done;
       const auto ids = range(value, 4095);
       return ids ? outcome(settle_once(term.vlan, *ids)) : Outcome::bad_value;
     }},
    {"untagged", Value::none, "",
     [](Term& term, std::string_view) {
       term.is_not |= EFIO_XDP_TAGGED;
       return Outcome::done;
     }},
    {"frag", Value::none, "",
     [](Term& term, std::string_view) {
       term.is |= EFIO_XDP_FRAGMENT;
       return Outcome::done;
     }},
    {"ether", Value::wanted, "an Ethernet type, 0x0600 to 0xffff",
     [](Term& term, std::string_view value) {
       const auto type = ether_type(value);
       return type ? outcome(add_type(term, *type, 0)) : Outcome::bad_value;
     }},
    {"mac", Value::wanted, "a MAC address",
     [](Term& term, std::string_view value) {
       const auto mac = mac_address(value);
       return mac ? outcome(settle_once(term.mac, *mac)) : Outcome::bad_value;
     }},
};

// Addresses say of which family the frame is: ARP's where the term says so, whatever comes first, else their own.
bool settle_family(Term& term) {
  const bool arp = term.ether_type == type_arp;
  for (const auto& place : {term.either, term.source, term.destination}) {
    if (!place) continue;
    if (arp && place->is_ipv6) return false;
    if (arp) term.is |= EFIO_XDP_ARP;
    else if (!add_type(term, place->is_ipv6 ? type_ipv6 : type_ipv4, place->is_ipv6 ? EFIO_XDP_IPV6 : EFIO_XDP_IPV4)) return false;
  }
  return true;
}

bool contradicts_itself(const Term& term) {
  constexpr std::uint32_t families = EFIO_XDP_IPV4 | EFIO_XDP_IPV6 | EFIO_XDP_ARP;
  constexpr std::uint32_t above_ip = EFIO_XDP_PROTOCOL | EFIO_XDP_PORTS | EFIO_XDP_FRAGMENT;
  const bool no_ip = term.ether_type && *term.ether_type != type_ipv4 && *term.ether_type != type_ipv6;
  return (term.is & term.is_not) != 0 || std::popcount(term.is & families) > 1 || (no_ip && (term.is & above_ip) != 0) ||
         // No part of a datagram but the first has ports, and that alone is of no use to anyone.
         ((term.is & EFIO_XDP_FRAGMENT) != 0 && (term.is & EFIO_XDP_PORTS) != 0);
}

void set_word(efio_xdp_rule& rule, std::size_t word, std::uint32_t mask, std::uint32_t value) {
  rule.mask[word] |= mask;
  rule.value[word] |= value;
}

void set_prefix(efio_xdp_rule& rule, std::size_t word, const Prefix& prefix) {
  for (std::size_t i = 0; i < prefix.value.size(); ++i) set_word(rule, word + i, prefix.mask[i], prefix.value[i]);
}

efio_xdp_rule compile(const Term& term, bool take) {
  efio_xdp_rule rule{};
  set_word(rule, EFIO_XDP_IS, term.is | term.is_not, term.is);
  if (term.ether_type) set_word(rule, EFIO_XDP_TYPE, 0xffff0000, std::uint32_t{*term.ether_type} << 16);
  if (term.protocol) set_word(rule, EFIO_XDP_TYPE, 0xff, *term.protocol);
  if (term.mac) {
    std::array<std::uint32_t, 2> words{};
    std::memcpy(words.data(), term.mac->data(), term.mac->size());
    set_word(rule, EFIO_XDP_MAC, UINT32_MAX, words[0]);
    set_word(rule, EFIO_XDP_MAC_REST, UINT32_MAX, words[1]);
  }
  if (term.source) set_prefix(rule, EFIO_XDP_SOURCE, *term.source);
  if (term.destination) set_prefix(rule, EFIO_XDP_DESTINATION, *term.destination);
  rule.vlan = term.vlan.value_or(any_number);
  rule.source_port = term.source_port.value_or(any_number);
  rule.destination_port = term.destination_port.value_or(any_number);
  rule.take = take;
  return rule;
}

// The common part of two, or nothing.
std::optional<efio_xdp_range> narrowed(const std::optional<efio_xdp_range>& one, const efio_xdp_range& other) {
  if (!one) return other;
  const efio_xdp_range both{std::max(one->low, other.low), std::min(one->high, other.high)};
  if (both.low > both.high) return std::nullopt;
  return both;
}

std::optional<Prefix> narrowed(const std::optional<Prefix>& one, const Prefix& other) {
  if (!one) return other;
  const bool one_is_longer = std::ranges::lexicographical_compare(other.mask, one->mask, {}, ntohl, ntohl);
  const auto& longer = one_is_longer ? *one : other;
  const auto& shorter = one_is_longer ? other : *one;
  for (std::size_t i = 0; i < longer.value.size(); ++i)
    if ((longer.value[i] & shorter.mask[i]) != shorter.value[i]) return std::nullopt;
  return longer;
}

// Sets what may be at either place at one of them, or leaves the term out where that cannot be.
template <auto Either, auto... Places>
std::vector<Term> split(const std::vector<Term>& terms) {
  std::vector<Term> result;
  for (const auto& term : terms) {
    if (!(term.*Either)) {
      result.push_back(term);
      continue;
    }
    const auto at = [&](auto place) {
      auto part = term;
      part.*place = narrowed(term.*place, *(term.*Either));
      if (part.*place) result.push_back(part);
    };
    (at(Places), ...);
  }
  return result;
}

std::string known_words() {
  std::string words;
  for (const auto& condition : conditions) words += fmt::format("{}{}", words.empty() ? "" : " ", condition.word);
  return words;
}

Result<Term> parse_term(std::string_view text, const std::string& attempted) {
  Term term;
  const auto whole = text;
  for (bool last = false; !last;) {
    const auto plus = text.find('+');
    last = plus == std::string_view::npos;
    const auto word = text.substr(0, plus);
    if (!last) text.remove_prefix(plus + 1);
    const auto colon = word.find(':');
    const auto name = word.substr(0, colon);
    const bool has_value = colon != std::string_view::npos;
    const auto value = has_value ? word.substr(colon + 1) : std::string_view{};
    const auto condition = std::ranges::find(conditions, name, &Condition::word);
    if (condition == std::end(conditions))
      return fail(Error::Kind::usage, attempted, "take=: there is no condition '{}'", name)
          .hint("all, none, or of {}, joined by + (and) and , (or)", known_words());
    if (has_value && condition->value == Value::none)
      return fail(Error::Kind::usage, attempted, "take=: {} has no value", name);
    if (!has_value && condition->value == Value::wanted)
      return fail(Error::Kind::usage, attempted, "take=: {} wants a value", name).hint("{}:, and {}", name, condition->form);
    const auto outcome = has_value && value.empty() ? Outcome::bad_value : condition->add(term, value);
    if (outcome == Outcome::bad_value)
      return fail(Error::Kind::usage, attempted, "take=: '{}' is no value of {}", value, name).hint("{}", condition->form);
    if (outcome == Outcome::contradiction)
      return fail(Error::Kind::usage, attempted, "take=: in {} no frame is {} and the rest too", whole, word)
          .hint("a comma joins terms of which one is enough");
  }
  if (!settle_family(term) || contradicts_itself(term))
    return fail(Error::Kind::usage, attempted, "take=: no frame is {}", whole).hint("a comma joins terms of which one is enough");
  return term;
}

}  // namespace

XdpRules::XdpRules() = default;
XdpRules::XdpRules(const XdpRules&) = default;
XdpRules::XdpRules(XdpRules&&) noexcept = default;
XdpRules& XdpRules::operator=(const XdpRules&) = default;
XdpRules& XdpRules::operator=(XdpRules&&) noexcept = default;
XdpRules::~XdpRules() = default;

Result<XdpRules> XdpRules::parse(std::string_view text, const std::string& attempted) {
  XdpRules result;
  result.text_ = text;
  if (text == "all") return result;
  result.everything_ = false;
  if (text == "none") return result;
  std::vector<efio_xdp_rule> takes;
  bool said_take = false;
  for (bool last = false; !last;) {
    const auto comma = text.find(',');
    last = comma == std::string_view::npos;
    auto word = text.substr(0, comma);
    if (!last) text.remove_prefix(comma + 1);
    const bool never = word.starts_with('!');
    if (never) word.remove_prefix(1);
    std::vector<Term> terms(1);
    if (word != "all") {
      auto term = parse_term(word, attempted);
      if (!term) return std::unexpected(term.error());
      terms = split<&Term::either, &Term::source, &Term::destination>({*term});
      terms = split<&Term::either_port, &Term::source_port, &Term::destination_port>(terms);
    }
    said_take = said_take || !never;
    for (const auto& part : terms) (never ? result.rules_ : takes).push_back(compile(part, !never));
  }
  if (!said_take)
    return fail(Error::Kind::usage, attempted, "take=: only what is not taken is told").hint("take=all,!…");
  result.rules_.insert(result.rules_.end(), takes.begin(), takes.end());
  if (result.rules_.size() > EFIO_XDP_RULES)
    return fail(Error::Kind::usage, attempted, "take=: {} rules, and the most is {}", result.rules_.size(), +EFIO_XDP_RULES)
        .hint("ip:, arp: with a prefix and port: count twice; prefixes and ranges join what lies together");
  return result;
}

}  // namespace efio
