// One opening of a port for a program without privileges: what it asks for is held against the broker's file, and done.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "efio/descriptor.h"
#include "efio/engines/link.h"
#include "efio/engines/xdp_broker.h"
#include "efio/engines/xdp_program.h"
#include "tools/broker/policy.h"

namespace efio::broker {

class Session;

// Which session a receive queue's frames go to.
using Owners = std::map<std::pair<int, unsigned>, const Session*>;

class Session {
 public:
  Session(Fd socket, Client client, Policy policy, Owners& owners)
      : socket_(std::move(socket)), client_(std::move(client)), policy_(std::move(policy)), owners_(owners) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  int descriptor() const noexcept { return socket_.get(); }
  const Client& client() const noexcept { return client_; }

  // Answers one request. False: the client is gone, or does not speak our language.
  bool serve();

 private:
  // A socket to hand over, if the request asks for one.
  Result<Fd> handle(const BrokerRequest& request, Fd received, BrokerAnswer& answer);
  Result<void> attach(const BrokerRequest& request, BrokerAnswer& answer);
  Result<Fd> bind(const BrokerRequest& request, const Fd& received);
  Result<void> set_socket(const BrokerRequest& request, const Fd& received);
  Result<void> set_rules(const BrokerRequest& request);
  Result<void> promiscuous();
  Result<void> check_receiver() const;  // may it have any of the device's queues for rx?
  Result<const Permit*> permit(const BrokerRequest& request, Direction direction) const;

  Fd socket_;
  Client client_;
  Policy policy_;
  Owners& owners_;
  std::shared_ptr<Link> link_;
  std::shared_ptr<XdpProgram> program_;
  Fd promiscuous_;
  std::map<unsigned, std::string> rules_;  // by queue, as they are set
  std::uint64_t locked_ = 0;               // bytes of frames
};

}  // namespace efio::broker
