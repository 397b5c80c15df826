#include <sys/epoll.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <optional>

#include "address.h"
#include "arguments.h"
#include "error.h"
#include "netns_socket.h"
#include "netns_thread.h"
#include "reactor.h"
#include "socket_options.h"

namespace culvert {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/** One connect on its way: made on the netns thread, awaited by the reactor, settled on the JS thread. */
struct Connecting {
  Connecting(std::shared_ptr<Reactor> reactor, Napi::Promise::Deferred deferred) : reactor(std::move(reactor)), deferred(deferred) {}

  std::shared_ptr<Reactor> reactor;
  Napi::Promise::Deferred deferred;
  /** our own copy: the caller may close its descriptor as soon as the call returns */
  Fd netns;
  SocketOptions options{};
  Endpoint destination;
  Clock::time_point deadline;
  Fd socket;
  /** our end as connect(2) chose it; a refused or reset socket loses it */
  SocketAddress local;
  std::optional<SystemError> failure;
  bool inProgress = false;
  Reactor::Id watch = 0;
  Reactor::Id timer = 0;

  std::string target() const { return destination.address + " port " + std::to_string(destination.port); }

  /** On the netns thread. Only the socket's birth needs the namespace; the address is read there for its scope. */
  void begin() {
    try {
      SocketAddress address;
      netns::inside(netns.valid() ? netns.get() : netns::kOwn, [&] {
        socket = makeSocket(options);
        address = SocketAddress::parse(options.family, destination.address, destination.port);
      });
      const int result = ::connect(socket.get(), address.get(), address.length);
      const int error = errno;
      inProgress = result < 0 && error == EINPROGRESS;
      if (result < 0 && !inProgress) throw SystemError(error, "connect", target());
      local.length = sizeof local.storage;
      check(getsockname(socket.get(), local.get(), &local.length), "getsockname");
    } catch (const SystemError& error) {
      failure = error;
    }
    netns.reset();
  }

  void settle(Napi::Env env) {
    if (failure) {
      socket.reset();
      Napi::Error error = failure->toJs(env);
      if (local.length > 0) {
        auto end = Napi::Object::New(env);
        end.Set("address", addressText(local));
        end.Set("port", portOf(local));
        error.Set("local", end);
      }
      deferred.Reject(error.Value());
    } else {
      deferred.Resolve(Napi::Number::New(env, socket.release()));
    }
  }

  void stopWaiting() {
    reactor->unwatch(watch);
    reactor->cancel(timer);
  }

  void arrived(Napi::Env env) {
    stopWaiting();
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) < 0) error = errno;
    if (error != 0) failure.emplace(error, "connect", target());
    settle(env);
  }

  void late(Napi::Env env) {
    stopWaiting();
    failure.emplace(ETIMEDOUT, "connect", target());
    settle(env);
  }
};

void await(const std::shared_ptr<Connecting>& connecting) {
  const auto left = std::chrono::ceil<milliseconds>(connecting->deadline - Clock::now());
  connecting->watch =
      connecting->reactor->watch(connecting->socket.get(), EPOLLOUT, [connecting](Napi::Env env, uint32_t) { connecting->arrived(env); });
  connecting->timer = connecting->reactor->after(std::max(left, milliseconds(0)), [connecting](Napi::Env env) { connecting->late(env); });
}

}  // namespace

Napi::Value netnsConnect(const Napi::CallbackInfo& info) {
  const int netnsFd = integer(info[0]);
  const auto arguments = info[1].As<Napi::Object>();
  auto connecting = std::make_shared<Connecting>(Reactor::of(info.Env()), Napi::Promise::Deferred::New(info.Env()));
  connecting->options = SocketOptions::read(arguments);
  if (const Napi::Value source = arguments.Get("source"); !source.IsUndefined())
    connecting->options.bind = endpointOf(source.As<Napi::Object>());
  connecting->destination = endpointOf(arguments.Get("destination").As<Napi::Object>());
  connecting->deadline = Clock::now() + milliseconds(unsignedInteger(arguments.Get("timeoutMs")));
  if (netnsFd != netns::kOwn) connecting->netns = Fd::duplicate(netnsFd);

  connecting->reactor->hold();
  netns::post([connecting] {
    connecting->begin();
    connecting->reactor->post([connecting](Napi::Env env) {
      connecting->reactor->release();
      if (connecting->inProgress) {
        await(connecting);
      } else {
        connecting->settle(env);
      }
    });
  });
  return connecting->deferred.Promise();
}

}  // namespace culvert
