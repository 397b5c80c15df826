/** Tells of new connections of a netns as conntrack confirms them: what was dialled, and where its answers come from. */
#include "conntrack_watch.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "address.h"
#include "arguments.h"
#include "error.h"
#include "netlink.h"
#include "netns_thread.h"
#include "reactor.h"

namespace culvert {

namespace {

/** Messages read in one turn; the rest wait in the kernel. */
constexpr int kPerTurn = 256;
constexpr int kReceiveBuffer = 1 << 20;

struct End {
  std::string address;
  uint16_t port = 0;
};
struct Tuple {
  End source;
  End destination;
  uint8_t protocol = 0;
};
struct Connection {
  Tuple original;
  Tuple reply;
};

Fd subscribe() {
  Fd socket(check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER), "socket", "netlink"));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind", "netlink");
  // Best effort: what does not fit is counted as lost.
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer);
  const int group = NFNLGRP_CONNTRACK_NEW;
  check(setsockopt(socket.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group), "setsockopt", "NETLINK_ADD_MEMBERSHIP");
  return socket;
}

uint16_t portIn(const nlattr* attribute) { return mnl_attr_get_payload_len(attribute) < 2 ? 0 : ntohs(mnl_attr_get_u16(attribute)); }

std::string addressIn(int family, const nlattr* attribute) {
  const size_t size = family == AF_INET ? 4 : 16;
  return mnl_attr_get_payload_len(attribute) < size ? std::string() : addressText(family, mnl_attr_get_payload(attribute));
}

Tuple tupleOf(const nlattr* nest) {
  Tuple tuple;
  for (const nlattr* part : Attributes(nest)) {
    const uint16_t kind = mnl_attr_get_type(part);
    if (kind == CTA_TUPLE_IP) {
      for (const nlattr* attribute : Attributes(part)) {
        const uint16_t type = mnl_attr_get_type(attribute);
        if (type == CTA_IP_V4_SRC) tuple.source.address = addressIn(AF_INET, attribute);
        if (type == CTA_IP_V4_DST) tuple.destination.address = addressIn(AF_INET, attribute);
        if (type == CTA_IP_V6_SRC) tuple.source.address = addressIn(AF_INET6, attribute);
        if (type == CTA_IP_V6_DST) tuple.destination.address = addressIn(AF_INET6, attribute);
      }
    }
    if (kind == CTA_TUPLE_PROTO) {
      for (const nlattr* attribute : Attributes(part)) {
        const uint16_t type = mnl_attr_get_type(attribute);
        if (type == CTA_PROTO_NUM) tuple.protocol = mnl_attr_get_u8(attribute);
        if (type == CTA_PROTO_SRC_PORT) tuple.source.port = portIn(attribute);
        if (type == CTA_PROTO_DST_PORT) tuple.destination.port = portIn(attribute);
      }
    }
  }
  return tuple;
}

Napi::Object toJs(Napi::Env env, const End& end) {
  auto object = Napi::Object::New(env);
  object.Set("address", end.address);
  object.Set("port", end.port);
  return object;
}

Napi::Object toJs(Napi::Env env, const Connection& connection) {
  auto object = Napi::Object::New(env);
  object.Set("protocol", connection.original.protocol);
  object.Set("source", toJs(env, connection.original.source));
  object.Set("destination", toJs(env, connection.original.destination));
  object.Set("answers", toJs(env, connection.reply.source));
  return object;
}

struct Watching {
  std::shared_ptr<Reactor> reactor;
  Fd socket;
  Reactor::Id id = 0;
  Napi::FunctionReference onNew;

  void close() {
    if (!socket.valid()) return;
    reactor->unwatch(id);
    socket.reset();
    onNew.Reset();
  }

  /** @return how often messages were lost */
  uint32_t read(std::vector<Connection>& connections) {
    uint32_t lost = 0;
    std::vector<char> buffer(32768);
    for (int i = 0; i < kPerTurn; i++) {
      const ssize_t length = recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (length < 0 && errno == ENOBUFS) {
        lost++;
        continue;
      }
      if (length < 0 && errno == EINTR) continue;
      if (length < 0) break;
      auto left = static_cast<unsigned>(length);
      for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
           header = NLMSG_NEXT(header, left)) {
        if (header->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW)) continue;
        Connection connection;
        for (const nlattr* attribute : Attributes(header, sizeof(nfgenmsg))) {
          if (mnl_attr_get_type(attribute) == CTA_TUPLE_ORIG) connection.original = tupleOf(attribute);
          if (mnl_attr_get_type(attribute) == CTA_TUPLE_REPLY) connection.reply = tupleOf(attribute);
        }
        connections.push_back(std::move(connection));
      }
    }
    return lost;
  }

  void ready(Napi::Env env) {
    std::vector<Connection> connections;
    const uint32_t lost = read(connections);
    reactor->arm(id, EPOLLIN);
    if (connections.empty() && lost == 0) return;
    auto list = Napi::Array::New(env, connections.size());
    for (uint32_t i = 0; i < connections.size(); i++) list.Set(i, toJs(env, connections[i]));
    onNew.Call({list, Napi::Number::New(env, lost)});
  }
};

}  // namespace

Napi::Value netnsConntrack(const Napi::CallbackInfo& info) {
  auto watching = std::make_shared<Watching>();
  watching->reactor = Reactor::of(info.Env());
  netns::run(integer(info[0]), [&] { watching->socket = subscribe(); });
  watching->onNew = Napi::Persistent(info[1].As<Napi::Function>());
  watching->id = watching->reactor->watch(watching->socket.get(), EPOLLIN, [watching](Napi::Env env, uint32_t) { watching->ready(env); });
  auto handle = Napi::Object::New(info.Env());
  handle.Set("close", function(info.Env(), "close", [watching](const Napi::CallbackInfo&) { watching->close(); }));
  return handle;
}

}  // namespace culvert
