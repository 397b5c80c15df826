#pragma once
#include <napi.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "fd.h"
#include "reactor.h"

namespace culvert {

/** One connection of a unix SOCK_SEQPACKET socket. Packets keep their bounds; descriptors travel with them. */
class SeqpacketConnection : public std::enable_shared_from_this<SeqpacketConnection> {
 public:
  SeqpacketConnection(std::shared_ptr<Reactor> reactor, Fd socket, size_t maxPacket);

  /** `{ peer, send, close }` */
  Napi::Object toJs(Napi::Env env);
  /** From here on packets are read. A second call, or one after close(), does nothing. */
  void open(const Napi::Object& handlers);
  void close();

 private:
  struct Packet {
    std::vector<uint8_t> data;
    Fd attached;
  };
  enum class Read { kPacket, kNothing, kEnd };

  void ready(Napi::Env env, uint32_t events);
  Read readOne(Napi::Env env);
  void send(Bytes data, std::optional<int> fd);
  /** @return false when the kernel's buffer is full */
  bool trySend(Bytes data, int fd);
  void flush();
  uint32_t interest() const;
  bool emptyPacketIsEnd() const;
  void finish(std::optional<SystemError> error);

  std::shared_ptr<Reactor> reactor_;
  Fd socket_;
  Reactor::Id watch_ = 0;
  std::vector<uint8_t> buffer_;
  std::deque<Packet> queue_;
  /** what a failing read said, reported when the packets that are still readable have been read */
  std::optional<SystemError> failure_;
  Napi::FunctionReference onPacket_;
  Napi::FunctionReference onClose_;
};

Napi::Value seqpacketListen(const Napi::CallbackInfo& info);
Napi::Value seqpacketConnect(const Napi::CallbackInfo& info);

}  // namespace culvert
