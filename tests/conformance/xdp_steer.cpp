// What the XDP program says to a frame, for scripts: standard input has lines, each is answered by one.
//
//   take RULES    "ok", or the error of the parser
//   frame HEX     "taken" or "passed", by the program that is attached to the loopback interface of a namespace of our own
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <sched.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "efio/engines/xdp_program.h"

namespace {

using namespace efio;

[[noreturn]] void give_up(const std::string& what) {
  std::cerr << what << '\n';
  std::exit(3);
}

Fd attached_program(int interface) {
  std::uint32_t id = 0;
  if (bpf_xdp_query_id(interface, 0, &id) != 0) give_up("no program is attached");
  return Fd(bpf_prog_get_fd_by_id(id));
}

std::vector<unsigned char> bytes_of(const std::string& hex) {
  std::vector<unsigned char> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<unsigned char>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  const bool fragments = argc > 1 && std::string(argv[1]) == "--fragments";
  if (::unshare(CLONE_NEWNET) != 0) give_up("unshare(CLONE_NEWNET)");
  if (std::system("ip link set lo up") != 0) give_up("ip link set lo up");
  const auto link = Link::open("lo", "open lo");
  if (!link) give_up(link.error().message());
  const auto program = XdpProgram::attach(**link, {.fragments = fragments}, "steer");
  if (!program) give_up(program.error().message());
  const Fd socket(::socket(AF_XDP, SOCK_RAW, 0));
  const int slots = 64;
  if (::setsockopt(socket.get(), SOL_XDP, XDP_RX_RING, &slots, sizeof slots) != 0) give_up("XDP_RX_RING");
  if (auto ok = (*program)->set_socket(0, socket.get(), "steer"); !ok) give_up(ok.error().message());
  const Fd kernel = attached_program((*link)->index());

  for (std::string line; std::getline(std::cin, line);) {
    if (line.starts_with("take ")) {
      const auto rules = XdpRules::parse(line.substr(5), "steer");
      const auto set = rules ? (*program)->set_rules(0, *rules, "steer") : std::unexpected(rules.error());
      std::cout << (set ? "ok" : set.error().message()) << std::endl;
    } else if (line.starts_with("frame ")) {
      const auto bytes = bytes_of(line.substr(6));
      bpf_test_run_opts run{};
      run.sz = sizeof run;
      run.data_in = bytes.data();
      run.data_size_in = static_cast<std::uint32_t>(bytes.size());
      run.repeat = 1;
      if (bpf_prog_test_run_opts(kernel.get(), &run) != 0) give_up("BPF_PROG_TEST_RUN");
      if (run.retval != XDP_REDIRECT && run.retval != XDP_PASS) give_up("a verdict of " + std::to_string(run.retval));
      std::cout << (run.retval == XDP_REDIRECT ? "taken" : "passed") << std::endl;
    }
  }
}
