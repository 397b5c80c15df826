/** Tells when addresses, rules or routes of a netns change; what they are now is read afresh, never derived from the messages. */
#include "netlink_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "netns_thread.h"
#include "reactor.h"

namespace culvert {

namespace {

constexpr int kGroups[] = {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_RULE,
                           RTNLGRP_IPV6_RULE,   RTNLGRP_IPV4_ROUTE,  RTNLGRP_IPV6_ROUTE};
/** Messages read in one turn; the rest wait in the kernel, and if they do not fit there, that is an 'overflow'. */
constexpr int kPerTurn = 256;

Fd subscribe() {
  Fd socket(check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), "socket", "netlink"));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind", "netlink");
  for (const int group : kGroups)
    check(setsockopt(socket.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group), "setsockopt", "NETLINK_ADD_MEMBERSHIP");
  return socket;
}

const char* subjectOf(uint16_t type) {
  switch (type) {
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return "address";
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return "rule";
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return "route";
    default:
      return nullptr;
  }
}

struct Watching {
  std::shared_ptr<Reactor> reactor;
  Fd socket;
  Reactor::Id id = 0;
  Napi::FunctionReference onChange;

  void close() {
    if (!socket.valid()) return;
    reactor->unwatch(id);
    socket.reset();
    onChange.Reset();
  }

  std::set<std::string> read() {
    std::set<std::string> subjects;
    std::vector<char> buffer(32768);
    for (int i = 0; i < kPerTurn; i++) {
      const ssize_t length = recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (length < 0 && errno == ENOBUFS) {
        subjects.insert("overflow");
        continue;
      }
      if (length < 0 && errno == EINTR) continue;
      if (length < 0) break;
      auto left = static_cast<unsigned>(length);
      for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
           header = NLMSG_NEXT(header, left)) {
        if (const char* subject = subjectOf(header->nlmsg_type); subject != nullptr) subjects.insert(subject);
      }
    }
    return subjects;
  }

  void ready(Napi::Env env) {
    const auto subjects = read();
    reactor->arm(id, EPOLLIN);
    if (subjects.empty()) return;
    auto list = Napi::Array::New(env);
    for (const std::string& subject : subjects) list.Set(list.Length(), subject);
    onChange.Call({list});
  }
};

}  // namespace

Napi::Value netnsWatch(const Napi::CallbackInfo& info) {
  auto watching = std::make_shared<Watching>();
  watching->reactor = Reactor::of(info.Env());
  netns::run(integer(info[0]), [&] { watching->socket = subscribe(); });
  watching->onChange = Napi::Persistent(info[1].As<Napi::Function>());
  watching->id = watching->reactor->watch(watching->socket.get(), EPOLLIN, [watching](Napi::Env env, uint32_t) { watching->ready(env); });
  auto handle = Napi::Object::New(info.Env());
  handle.Set("close", function(info.Env(), "close", [watching](const Napi::CallbackInfo&) { watching->close(); }));
  return handle;
}

}  // namespace culvert
