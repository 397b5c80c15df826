/** Questions to, and changes of, sockets that somebody else made. */
#include "socket_fd.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <optional>

#include "address.h"
#include "arguments.h"
#include "error.h"
#include "fd.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace culvert {

namespace {

template <typename Value>
Value option(int fd, int level, int name, const char* what) {
  Value value{};
  socklen_t length = sizeof value;
  check(getsockopt(fd, level, name, &value, &length), "getsockopt", what);
  return value;
}

void setOption(int fd, int name, int value, const char* what) {
  check(setsockopt(fd, SOL_SOCKET, name, &value, sizeof value), "setsockopt", what);
}

/** SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, whose headers cannot be included beside netinet/in.h. */
constexpr int kOriginalDestination = 80;

/** @return false when this family's conntrack knows nothing of the socket, or is not there at all */
bool originalDestination(int fd, int level, int name, SocketAddress& address) {
  address.length = sizeof address.storage;
  if (getsockopt(fd, level, name, address.get(), &address.length) == 0) return true;
  // ENOENT: no such connection. ENOPROTOOPT, EOPNOTSUPP: no conntrack here, or the socket speaks IPv4 alone. EINVAL: not connected any more.
  if (errno == ENOENT || errno == ENOPROTOOPT || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOTCONN) return false;
  throw SystemError(errno, "getsockopt", "SO_ORIGINAL_DST");
}

using Naming = int (*)(int, sockaddr*, socklen_t*);

SocketAddress nameOf(int fd, Naming naming, const char* syscall) {
  SocketAddress address;
  address.length = sizeof address.storage;
  check(naming(fd, address.get(), &address.length), syscall);
  if (address.storage.ss_family != AF_INET && address.storage.ss_family != AF_INET6) throw SystemError(EAFNOSUPPORT, syscall);
  return address;
}

Napi::Object toJs(Napi::Env env, const SocketAddress& address) {
  auto end = Napi::Object::New(env);
  end.Set("address", addressText(address));
  end.Set("port", portOf(address));
  return end;
}

/** Looking at any descriptor of a process: most are no sockets, and of those most are not listening. */
bool isTcpListener(int fd) {
  int accepting = 0;
  socklen_t length = sizeof accepting;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &length) < 0) {
    if (errno == ENOTSOCK || errno == ENOPROTOOPT || errno == EOPNOTSUPP) return false;
    throw SystemError(errno, "getsockopt", "SO_ACCEPTCONN");
  }
  if (accepting == 0) return false;
  const int protocol = option<int>(fd, SOL_SOCKET, SO_PROTOCOL, "SO_PROTOCOL");
  const int family = option<int>(fd, SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN");
  return (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP) && (family == AF_INET || family == AF_INET6);
}

}  // namespace

void socketMark(const Napi::CallbackInfo& info) {
  setOption(integer(info[0]), SO_MARK, static_cast<int>(unsignedInteger(info[1])), "SO_MARK");
}

void socketReuseAddr(const Napi::CallbackInfo& info) { setOption(integer(info[0]), SO_REUSEADDR, 1, "SO_REUSEADDR"); }

Napi::Value socketNames(const Napi::CallbackInfo& info) {
  const int fd = integer(info[0]);
  auto names = Napi::Object::New(info.Env());
  names.Set("local", toJs(info.Env(), nameOf(fd, getsockname, "getsockname")));
  try {
    names.Set("remote", toJs(info.Env(), nameOf(fd, getpeername, "getpeername")));
  } catch (const SystemError& error) {
    // EINVAL is a connection that was shut down both ways and reset meanwhile.
    if (error.error() != ENOTCONN && error.error() != EINVAL) throw;
  }
  return names;
}

/** As ztunnel asks: IPv4 first, also of a socket of IPv6 that took a v4 client. */
Napi::Value socketOriginalDestination(const Napi::CallbackInfo& info) {
  const int fd = integer(info[0]);
  SocketAddress address;
  if (originalDestination(fd, SOL_IP, kOriginalDestination, address) || originalDestination(fd, SOL_IPV6, kOriginalDestination, address))
    return toJs(info.Env(), address);
  return info.Env().Undefined();
}

void socketReset(const Napi::CallbackInfo& info) {
  Fd fd(integer(info[0]));
  const linger reset{.l_onoff = 1, .l_linger = 0};
  if (setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0) {
    const int error = errno;
    if (error == EBADF) fd.release();
    throw SystemError(error, "setsockopt", "SO_LINGER");
  }
}

Napi::Value socketListener(const Napi::CallbackInfo& info) {
  const int fd = integer(info[0]);
  if (!isTcpListener(fd)) return info.Env().Undefined();
  const bool v6 = option<int>(fd, SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN") == AF_INET6;
  const int transparent =
      v6 ? option<int>(fd, SOL_IPV6, IPV6_TRANSPARENT, "IPV6_TRANSPARENT") : option<int>(fd, SOL_IP, IP_TRANSPARENT, "IP_TRANSPARENT");
  auto listener = Napi::Object::New(info.Env());
  listener.Set("port", portOf(nameOf(fd, getsockname, "getsockname")));
  listener.Set("mark", option<uint32_t>(fd, SOL_SOCKET, SO_MARK, "SO_MARK"));
  listener.Set("cookie", Napi::BigInt::New(info.Env(), option<uint64_t>(fd, SOL_SOCKET, SO_NETNS_COOKIE, "SO_NETNS_COOKIE")));
  listener.Set("transparent", transparent != 0);
  listener.Set("family", v6 ? 6 : 4);
  return listener;
}

Napi::Value pidfdGetFd(const Napi::CallbackInfo& info) {
  const Fd process(check(syscall(SYS_pidfd_open, integer(info[0]), 0), "pidfd_open"));
  return Napi::Number::New(info.Env(), check(syscall(SYS_pidfd_getfd, process.get(), integer(info[1]), 0), "pidfd_getfd"));
}

}  // namespace culvert
