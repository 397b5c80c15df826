#include "netlink_subscription.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <memory>

#include "arguments.h"
#include "error.h"
#include "netns_thread.h"
#include "reactor.h"

namespace culvert {

namespace {

/** Messages read in one turn; the rest wait in the kernel, and what does not fit there is lost. */
constexpr int kPerTurn = 256;

Fd open(const NetlinkSubscription& wanted) {
  Fd socket(check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, wanted.bus), "socket", "netlink"));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind", "netlink");
  // Best effort: what does not fit is counted as lost.
  if (wanted.receiveBuffer > 0) setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUFFORCE, &wanted.receiveBuffer, sizeof wanted.receiveBuffer);
  for (const int group : wanted.groups)
    check(setsockopt(socket.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group), "setsockopt", "NETLINK_ADD_MEMBERSHIP");
  return socket;
}

struct Watching {
  NetlinkSubscription wanted;
  std::shared_ptr<Reactor> reactor;
  Fd socket;
  Reactor::Id id = 0;
  Napi::FunctionReference call;

  void close() {
    if (!socket.valid()) return;
    reactor->unwatch(id);
    socket.reset();
    call.Reset();
  }

  /** @return how often messages were lost */
  uint32_t read() {
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
      for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data()); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left))
        wanted.visit(header);
    }
    return lost;
  }

  void ready(Napi::Env env) {
    const uint32_t lost = read();
    reactor->arm(id, EPOLLIN);
    wanted.report(env, call, lost);
  }
};

}  // namespace

Napi::Value subscribe(const Napi::CallbackInfo& info, NetlinkSubscription subscription) {
  auto watching = std::make_shared<Watching>();
  watching->wanted = std::move(subscription);
  watching->reactor = Reactor::of(info.Env());
  netns::run(integer(info[0]), [&] { watching->socket = open(watching->wanted); });
  watching->call = Napi::Persistent(info[1].As<Napi::Function>());
  watching->id = watching->reactor->watch(watching->socket.get(), EPOLLIN, [watching](Napi::Env env, uint32_t) { watching->ready(env); });
  auto handle = Napi::Object::New(info.Env());
  handle.Set("close", function(info.Env(), "close", [watching](const Napi::CallbackInfo&) { watching->close(); }));
  return handle;
}

}  // namespace culvert
