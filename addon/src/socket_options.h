#pragma once
#include <napi.h>

#include <cstdint>
#include <optional>
#include <string>

#include "fd.h"

namespace culvert {

struct Endpoint {
  std::string address;
  uint16_t port;
};

Endpoint endpointOf(const Napi::Object& object);

struct Keepalive {
  uint32_t idle;
  uint32_t interval;
  uint32_t count;
};

/** SocketOptions of index.d.ts, read on the JS thread so that the socket can be made on another. */
struct SocketOptions {
  int family;
  int type;
  std::optional<uint32_t> mark;
  bool reusePort;
  bool reuseAddr;
  bool transparent;
  bool freebind;
  bool noDelay;
  bool v6only;
  std::optional<Keepalive> keepalive;
  std::optional<uint32_t> sendBuffer;
  std::optional<Endpoint> bind;
  std::optional<int> backlog;

  static SocketOptions read(const Napi::Object& object);
};

/** A non-blocking socket of the calling thread's netns, options set, bound and listening as asked. @throws SystemError */
Fd makeSocket(const SocketOptions& options);

}  // namespace culvert
