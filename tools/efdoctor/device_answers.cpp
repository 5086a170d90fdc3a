#include "tools/efdoctor/device_answers.h"

#include <concepts>
#include <type_traits>

#include "efio/fail.h"

namespace efio::doctor {

using tools::Json;

namespace {

template <class T, class Plain>
concept Of = std::is_same_v<std::remove_const_t<T>, Plain>;

// One account of the members serves both ways.
void visit(auto& field, Of<DeviceAnswers> auto& a) {
  field("name", a.name);
  field("index", a.index);
  field("driver", a.driver);
  field("driver_version", a.driver_version);
  field("firmware", a.firmware);
  field("bus", a.bus);
  field("up", a.up);
  field("carrier", a.carrier);
  field("loopback", a.loopback);
  field("mtu", a.mtu);
  field("tx_queue_length", a.tx_queue_length);
  field("counts", a.counts);
  field("features", a.features);
  field("rings", a.rings);
  field("channels", a.channels);
  field("coalescing", a.coalescing);
  field("pause", a.pause);
  field("link", a.link);
  field("spread", a.spread);
  field("xdp", a.xdp);
  field("program", a.program);
}
void visit(auto& field, Of<tools::DeviceCounts> auto& c) {
  field("rx_packets", c.rx_packets);
  field("rx_errors", c.rx_errors);
  field("rx_dropped", c.rx_dropped);
  field("rx_fifo", c.rx_fifo);
  field("tx_packets", c.tx_packets);
  field("tx_errors", c.tx_errors);
  field("tx_dropped", c.tx_dropped);
}
void visit(auto& field, Of<RingSizes> auto& r) {
  field("rx", r.rx);
  field("rx_most", r.rx_most);
  field("tx", r.tx);
  field("tx_most", r.tx_most);
}
void visit(auto& field, Of<Channels> auto& c) {
  field("rx", c.rx);
  field("tx", c.tx);
  field("combined", c.combined);
  field("rx_most", c.rx_most);
  field("tx_most", c.tx_most);
  field("combined_most", c.combined_most);
}
void visit(auto& field, Of<Coalescing> auto& c) {
  field("rx_us", c.rx_us);
  field("rx_frames", c.rx_frames);
  field("tx_us", c.tx_us);
  field("tx_frames", c.tx_frames);
  field("adaptive_rx", c.adaptive_rx);
  field("adaptive_tx", c.adaptive_tx);
}
void visit(auto& field, Of<Pause> auto& p) {
  field("negotiated", p.negotiated);
  field("rx", p.rx);
  field("tx", p.tx);
}
void visit(auto& field, Of<LinkMode> auto& l) {
  field("speed", l.speed);
  field("speed_most", l.speed_most);
  field("duplex", l.duplex);
}
void visit(auto& field, Of<Spread> auto& s) {
  field("table", s.table);
  field("key", s.key);
}
void visit(auto& field, Of<XdpSupport> auto& x) {
  field("native", x.native);
  field("redirect", x.redirect);
  field("zero_copy", x.zero_copy);
  field("multi_buffer", x.multi_buffer);
  field("hardware_time", x.hardware_time);
}
void visit(auto& field, Of<XdpProgram> auto& p) {
  field("id", p.id);
  field("mode", p.mode);
}

template <class T>
concept Record = std::is_class_v<T> && !std::is_same_v<T, std::string> && !requires(T value) { value.begin(); } &&
                 !requires(T value) { value.has_value(); };

struct Writer {
  Json& json;

  template <class T>
  void operator()(const char* name, const T& value) {
    json[name] = value;
  }
  void operator()(const char* name, const std::map<std::string, Feature>& features) {
    auto& place = json[name] = Json::object();
    for (const auto& [feature, is] : features)
      place[feature] = std::string(is.on ? "on" : "off") + (is.fixed ? " fixed" : "");
  }
  template <Record T>
  void operator()(const char* name, const T& part) {
    json[name] = Json::object();
    Writer inside{json[name]};
    visit(inside, part);
  }
  template <Record T>
  void operator()(const char* name, const std::optional<T>& part) {
    if (part) (*this)(name, *part);
  }
};

// Throws nlohmann's errors, which say where. A member that is not there stays as it is: hand-written files are short.
struct Reader {
  const Json& json;

  template <class T>
  void operator()(const char* name, T& value) {
    if (json.contains(name)) json.at(name).get_to(value);
  }
  void operator()(const char* name, std::map<std::string, Feature>& features) {
    if (!json.contains(name)) return;
    for (const auto& [feature, is] : json.at(name).items()) {
      const auto text = is.get<std::string>();
      features[feature] = {.on = text.starts_with("on"), .fixed = text.ends_with("fixed")};
    }
  }
  template <Record T>
  void operator()(const char* name, T& part) {
    if (!json.contains(name)) return;
    Reader inside{json.at(name)};
    visit(inside, part);
  }
  template <Record T>
  void operator()(const char* name, std::optional<T>& part) {
    if (json.contains(name)) (*this)(name, part.emplace());
  }
};

}  // namespace

Json to_json(const DeviceAnswers& answers) {
  auto json = Json::object();
  Writer writer{json};
  visit(writer, answers);
  return json;
}

std::string pretty(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

Result<DeviceAnswers> from_json(const std::string& text, const std::string& path) {
  try {
    const auto json = Json::parse(text);
    DeviceAnswers answers;
    Reader reader{json};
    visit(reader, answers);
    return answers;
  } catch (const Json::exception& error) {
    return fail(Error::Kind::data, "read " + path, "{}", error.what());
  }
}

}  // namespace efio::doctor
