/** TCP sockets of a netns by their mark, through inet_diag; needs CAP_NET_ADMIN over that netns to see marks at all. */
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <vector>

#include "address.h"
#include "arguments.h"
#include "netns_operation.h"

namespace culvert {

namespace {

constexpr uint32_t kTimeWait = 6;
constexpr uint32_t kListen = 10;
/**
 * TCP_ESTABLISHED to TCP_NEW_SYN_RECV. Later numbers mean sockets that are bound and nothing else, for which the kernel would walk
 * another hash table of the whole machine.
 */
constexpr uint32_t kStates = (1u << 13) - 1;

struct DiagSocket {
  inet_diag_sockid id;
  int family;
  uint8_t state;
  uint32_t mark;
  uint32_t inode;
  /** empty where the kernel does not say it */
  std::optional<bool> transparent;
};

struct Filter {
  uint32_t mark;
  uint32_t mask;
  uint32_t states;
};

uint64_t cookieOf(const inet_diag_sockid& id) { return uint64_t{id.idiag_cookie[1]} << 32 | id.idiag_cookie[0]; }

/**
 * Both families by one dump, which inet_diag's first form of request gives and the present one does not: the kernel walks the hash table
 * of the whole machine for each. Sockets in TIME_WAIT are left out: both ends have closed, nothing is carried on them, and waiting for
 * them would hold every removal for a minute.
 */
std::vector<DiagSocket> readSockets(Netlink& netlink, Filter filter) {
  Netlink::Request request(TCPDIAG_GETSOCK, 0);
  auto* body = request.body<inet_diag_req>();
  body->idiag_family = AF_UNSPEC;
  body->idiag_states = filter.states & ~(1u << kTimeWait);
  // The kernel filters, so that a pod with 100k connections costs what its marked ones cost.
  struct {
    inet_diag_bc_op op;
    inet_diag_markcond condition;
  } filterCode{{INET_DIAG_BC_MARK_COND, sizeof filterCode, sizeof filterCode + 4}, {filter.mark, filter.mask}};
  mnl_attr_put(request.header(), INET_DIAG_REQ_BYTECODE, sizeof filterCode, &filterCode);

  std::vector<DiagSocket> sockets;
  netlink.dump(
      request, "TCPDIAG_GETSOCK", [&] { sockets.clear(); },
      [&](const nlmsghdr* header) {
        const auto* message = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(header));
        DiagSocket socket{message->id, message->idiag_family, message->idiag_state, 0, message->idiag_inode};
        for (const nlattr* attribute : Attributes(header, sizeof(inet_diag_msg))) {
          const uint16_t type = mnl_attr_get_type(attribute);
          const uint16_t length = mnl_attr_get_payload_len(attribute);
          if (type == INET_DIAG_MARK && length >= 4) socket.mark = mnl_attr_get_u32(attribute);
          if (type == INET_DIAG_SOCKOPT && length >= sizeof(inet_diag_sockopt))
            socket.transparent = static_cast<const inet_diag_sockopt*>(mnl_attr_get_payload(attribute))->transparent != 0;
        }
        if ((socket.mark & filter.mask) == filter.mark) sockets.push_back(socket);
      });
  return sockets;
}

/** @return false when the socket was gone already */
bool destroy(Netlink& netlink, const DiagSocket& socket) {
  Netlink::Request request(SOCK_DESTROY, 0);
  auto* body = request.body<inet_diag_req_v2>();
  body->sdiag_family = static_cast<uint8_t>(socket.family);
  body->sdiag_protocol = IPPROTO_TCP;
  body->idiag_states = ~0u;
  // The cookie in the id makes sure that it is this socket, not a later one with the same tuple.
  body->id = socket.id;
  const int error = netlink.acknowledge(request, "SOCK_DESTROY");
  if (error == 0) return true;
  if (error == ENOENT || error == ESTALE) return false;
  throw SystemError(error, "SOCK_DESTROY");
}

Filter filterOf(const Napi::Object& op) {
  const bool listening = flag(op, "listening");
  return {unsignedInteger(op.Get("mark")), unsignedInteger(op.Get("mask")), listening ? 1u << kListen : kStates};
}

Napi::Object toJs(Napi::Env env, const DiagSocket& socket) {
  auto entry = Napi::Object::New(env);
  entry.Set("family", socket.family == AF_INET ? 4 : 6);
  entry.Set("state", socket.state);
  entry.Set("src", addressText(socket.family, socket.id.idiag_src));
  entry.Set("sport", ntohs(socket.id.idiag_sport));
  entry.Set("dst", addressText(socket.family, socket.id.idiag_dst));
  entry.Set("dport", ntohs(socket.id.idiag_dport));
  entry.Set("mark", socket.mark);
  entry.Set("inode", socket.inode);
  if (socket.transparent) entry.Set("transparent", *socket.transparent);
  entry.Set("cookie", Napi::BigInt::New(env, cookieOf(socket.id)));
  return entry;
}

}  // namespace

Operation socketsOperation(const Napi::Object& op) {
  return [filter = filterOf(op)](NetnsSession& session) -> Render {
    return [sockets = readSockets(session.diag(), filter)](Napi::Env env) -> Napi::Value {
      auto list = Napi::Array::New(env, sockets.size());
      for (uint32_t i = 0; i < sockets.size(); i++) list.Set(i, toJs(env, sockets[i]));
      return list;
    };
  };
}

Operation socketsDestroyOperation(const Napi::Object& op) {
  return [filter = filterOf(op)](NetnsSession& session) -> Render {
    uint32_t destroyed = 0;
    // A listener carries no connection, and taking a living tunnel's away would be an outage.
    for (const DiagSocket& socket : readSockets(session.diag(), filter)) {
      if (socket.state != kListen && destroy(session.diag(), socket)) destroyed++;
    }
    return [destroyed](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, destroyed); };
  };
}

}  // namespace culvert
