#include "socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "address.h"
#include "arguments.h"
#include "error.h"

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

namespace culvert {

namespace {

void set(const Fd& socket, int level, int name, int value, const char* what) {
  check(setsockopt(socket.get(), level, name, &value, sizeof value), "setsockopt", what);
}

std::optional<Keepalive> readKeepalive(const Napi::Value& value) {
  if (value.IsUndefined()) return std::nullopt;
  const auto object = value.As<Napi::Object>();
  return Keepalive{unsignedInteger(object.Get("idle")), unsignedInteger(object.Get("interval")), unsignedInteger(object.Get("count"))};
}

std::optional<int> readBacklog(const Napi::Value& value) {
  if (value.IsUndefined()) return std::nullopt;
  return integer(value.As<Napi::Object>().Get("backlog"));
}

/** A v6 socket that takes v4 too needs both families' options: each is asked for its own kind of packet. */
void setForeignAddresses(const Fd& socket, const SocketOptions& options) {
  const bool v6 = options.family == AF_INET6;
  if (options.transparent && v6) set(socket, SOL_IPV6, IPV6_TRANSPARENT, 1, "IPV6_TRANSPARENT");
  if (options.transparent && !(v6 && options.v6only)) set(socket, SOL_IP, IP_TRANSPARENT, 1, "IP_TRANSPARENT");
  if (options.freebind && v6) set(socket, SOL_IPV6, IPV6_FREEBIND, 1, "IPV6_FREEBIND");
  if (options.freebind && !(v6 && options.v6only)) set(socket, SOL_IP, IP_FREEBIND, 1, "IP_FREEBIND");
}

void setKeepalive(const Fd& socket, const Keepalive& keepalive) {
  set(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
  set(socket, SOL_TCP, TCP_KEEPIDLE, static_cast<int>(keepalive.idle), "TCP_KEEPIDLE");
  set(socket, SOL_TCP, TCP_KEEPINTVL, static_cast<int>(keepalive.interval), "TCP_KEEPINTVL");
  set(socket, SOL_TCP, TCP_KEEPCNT, static_cast<int>(keepalive.count), "TCP_KEEPCNT");
}

}  // namespace

Endpoint endpointOf(const Napi::Object& object) {
  return {text(object.Get("address")), static_cast<uint16_t>(unsignedInteger(object.Get("port")))};
}

SocketOptions SocketOptions::read(const Napi::Object& object) {
  SocketOptions options{};
  options.family = familyOf(integer(object.Get("family")));
  options.type = text(object.Get("type")) == "udp" ? SOCK_DGRAM : SOCK_STREAM;
  options.mark = optionalUnsigned(object, "mark");
  options.reusePort = flag(object, "reusePort");
  options.reuseAddr = flag(object, "reuseAddr");
  options.transparent = flag(object, "transparent");
  options.freebind = flag(object, "freebind");
  options.noDelay = flag(object, "noDelay");
  options.v6only = flag(object, "v6only");
  options.keepalive = readKeepalive(object.Get("keepalive"));
  options.sendBuffer = optionalUnsigned(object, "sendBuffer");
  if (const Napi::Value bind = object.Get("bind"); !bind.IsUndefined()) options.bind = endpointOf(bind.As<Napi::Object>());
  options.backlog = readBacklog(object.Get("listen"));
  return options;
}

Fd makeSocket(const SocketOptions& options) {
  Fd socket(check(::socket(options.family, options.type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket"));
  // The mark first: everything after it may already be judged by it.
  if (options.mark) set(socket, SOL_SOCKET, SO_MARK, static_cast<int>(*options.mark), "SO_MARK");
  // Said either way: the default is a sysctl of the pod.
  if (options.family == AF_INET6) set(socket, SOL_IPV6, IPV6_V6ONLY, options.v6only ? 1 : 0, "IPV6_V6ONLY");
  if (options.reuseAddr) set(socket, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
  if (options.reusePort) set(socket, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  setForeignAddresses(socket, options);
  if (options.noDelay) set(socket, SOL_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  if (options.keepalive) setKeepalive(socket, *options.keepalive);
  // The kernel doubles the number for its own bookkeeping, so that so many bytes of payload fit.
  if (options.sendBuffer) set(socket, SOL_SOCKET, SO_SNDBUFFORCE, static_cast<int>(*options.sendBuffer), "SO_SNDBUFFORCE");
  if (options.bind) {
    const SocketAddress address = SocketAddress::parse(options.family, options.bind->address, options.bind->port);
    check(::bind(socket.get(), address.get(), address.length), "bind",
          options.bind->address + " port " + std::to_string(options.bind->port));
  }
  if (options.backlog) check(::listen(socket.get(), *options.backlog), "listen");
  return socket;
}

}  // namespace culvert
