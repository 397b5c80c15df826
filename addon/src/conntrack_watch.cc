/** Tells of new connections of a netns as conntrack confirms them: what was dialled, and where its answers come from. */
#include "conntrack_watch.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "address.h"
#include "netlink.h"
#include "netlink_subscription.h"

namespace culvert {

namespace {

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

}  // namespace

Napi::Value netnsConntrack(const Napi::CallbackInfo& info) {
  auto connections = std::make_shared<std::vector<Connection>>();
  return subscribe(info, {.bus = NETLINK_NETFILTER,
                          .groups = {NFNLGRP_CONNTRACK_NEW},
                          .receiveBuffer = kReceiveBuffer,
                          .visit =
                              [connections](const nlmsghdr* header) {
                                if (header->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW)) return;
                                Connection connection;
                                for (const nlattr* attribute : Attributes(header, sizeof(nfgenmsg))) {
                                  if (mnl_attr_get_type(attribute) == CTA_TUPLE_ORIG) connection.original = tupleOf(attribute);
                                  if (mnl_attr_get_type(attribute) == CTA_TUPLE_REPLY) connection.reply = tupleOf(attribute);
                                }
                                connections->push_back(std::move(connection));
                              },
                          .report =
                              [connections](Napi::Env env, const Napi::FunctionReference& call, uint32_t lost) {
                                const auto fresh = std::exchange(*connections, {});
                                if (fresh.empty() && lost == 0) return;
                                auto list = Napi::Array::New(env, fresh.size());
                                for (uint32_t i = 0; i < fresh.size(); i++) list.Set(i, toJs(env, fresh[i]));
                                call.Call({list, Napi::Number::New(env, lost)});
                              }});
}

}  // namespace culvert
