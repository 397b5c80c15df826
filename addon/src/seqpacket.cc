#include "seqpacket.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>

namespace culvert {

namespace {

/** Packets that wait for a peer that does not read, before send() says EAGAIN. */
constexpr size_t kMaxQueue = 64;
/** Packets handed over in one turn of the loop. */
constexpr int kPerTurn = 64;
/** Descriptors taken out of one packet; more of them mark it as truncated. */
constexpr size_t kMaxFds = 4;

struct Received {
  ssize_t length = 0;
  std::vector<Fd> fds;
  bool truncated = false;
};

Received receive(int socket, std::vector<uint8_t>& buffer) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  Received received;
  received.length = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received.length < 0) return received;
  received.truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
  // A packet that is not whole is not to be acted on: nor are its descriptors.
  if (received.truncated) received.fds.clear();
  return received;
}

Napi::Object peerOf(Napi::Env env, int socket) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  check(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length), "getsockopt", "SO_PEERCRED");
  auto peer = Napi::Object::New(env);
  peer.Set("pid", credentials.pid);
  peer.Set("uid", credentials.uid);
  peer.Set("gid", credentials.gid);
  return peer;
}

}  // namespace

SeqpacketConnection::SeqpacketConnection(std::shared_ptr<Reactor> reactor, Fd socket, size_t maxPacket)
    : reactor_(std::move(reactor)), socket_(std::move(socket)), buffer_(maxPacket) {}

Napi::Object SeqpacketConnection::toJs(Napi::Env env) {
  auto self = shared_from_this();
  auto connection = Napi::Object::New(env);
  connection.Set("peer", peerOf(env, socket_.get()));
  connection.Set("send", function(env, "send", [self](const Napi::CallbackInfo& info) {
                   self->send(bytes(info[0]), info[1].IsUndefined() ? std::nullopt : std::optional(integer(info[1])));
                 }));
  connection.Set("close", function(env, "close", [self](const Napi::CallbackInfo&) { self->close(); }));
  return connection;
}

void SeqpacketConnection::open(const Napi::Object& handlers) {
  onClose_ = Napi::Persistent(handlers.Get("onClose").As<Napi::Function>());
  onPacket_ = Napi::Persistent(handlers.Get("onPacket").As<Napi::Function>());
  if (!socket_.valid()) return finish(std::nullopt);
  watch_ =
      reactor_->watch(socket_.get(), interest(), [self = shared_from_this()](Napi::Env env, uint32_t events) { self->ready(env, events); });
}

void SeqpacketConnection::close() {
  if (!socket_.valid()) return;
  try {
    flush();
  } catch (const SystemError&) {
    // The peer is gone: what was queued has no reader.
  }
  finish(std::nullopt);
}

uint32_t SeqpacketConnection::interest() const { return queue_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT; }

void SeqpacketConnection::ready(Napi::Env env, uint32_t events) {
  try {
    if ((events & EPOLLOUT) != 0) flush();
  } catch (const SystemError& error) {
    // Not the end yet: what the peer said before it went away may still be readable.
    failure_ = error;
    queue_.clear();
  }
  // Armed before JS runs, so that a handler that throws does not make the connection deaf.
  reactor_->arm(watch_, interest());
  Read result = Read::kPacket;
  for (int i = 0; i < kPerTurn && result == Read::kPacket && socket_.valid(); i++) result = readOne(env);
  if (result == Read::kEnd) finish(failure_);
}

SeqpacketConnection::Read SeqpacketConnection::readOne(Napi::Env env) {
  Received received = receive(socket_.get(), buffer_);
  if (received.length < 0) {
    const int error = errno;
    if (error == EAGAIN || error == EINTR) return Read::kNothing;
    if (!failure_) failure_.emplace(error, "recvmsg");
    // ECONNRESET comes before the packets that the peer had sent, and only once: they are still to be read.
    return error == ECONNRESET ? Read::kPacket : Read::kEnd;
  }
  if (received.length == 0 && received.fds.empty() && !received.truncated && emptyPacketIsEnd()) return Read::kEnd;
  auto fds = Napi::Array::New(env, received.fds.size());
  for (uint32_t i = 0; i < received.fds.size(); i++) fds.Set(i, received.fds[i].release());
  const Bytes data(buffer_.data(), std::min(static_cast<size_t>(received.length), buffer_.size()));
  onPacket_.Call({copyBytes(env, data), fds, Napi::Boolean::New(env, received.truncated)});
  return Read::kPacket;
}

/** recvmsg answers 0 both for the end and for a packet without bytes; only the end is both hung up and without more to read. */
bool SeqpacketConnection::emptyPacketIsEnd() const {
  pollfd state{.fd = socket_.get(), .events = POLLRDHUP, .revents = 0};
  if (poll(&state, 1, 0) < 1 || (state.revents & (POLLRDHUP | POLLHUP)) == 0) return false;
  int readable = 0;
  return ioctl(socket_.get(), FIONREAD, &readable) < 0 || readable == 0;
}

void SeqpacketConnection::send(Bytes data, std::optional<int> fd) {
  if (!socket_.valid()) throw SystemError(EPIPE, "sendmsg", "the connection is closed");
  if (queue_.empty() && trySend(data, fd.value_or(-1))) return;
  if (queue_.size() >= kMaxQueue) throw SystemError(EAGAIN, "sendmsg", "the peer does not read");
  queue_.push_back({{data.begin(), data.end()}, fd ? Fd::duplicate(*fd) : Fd()});
  reactor_->arm(watch_, interest());
}

bool SeqpacketConnection::trySend(Bytes data, int fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part{.iov_base = const_cast<uint8_t*>(data.data()), .iov_len = data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  for (;;) {
    if (sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    if (errno == EAGAIN) return false;
    if (errno != EINTR) throw SystemError(errno, "sendmsg");
  }
}

void SeqpacketConnection::flush() {
  while (!queue_.empty() && trySend(queue_.front().data, queue_.front().attached.get())) queue_.pop_front();
}

void SeqpacketConnection::finish(std::optional<SystemError> error) {
  if (socket_.valid()) {
    reactor_->unwatch(watch_);
    socket_.reset();
    queue_.clear();
  }
  if (onClose_.IsEmpty()) return;
  // Later and from an empty stack, so that close() never calls back into the middle of its caller.
  auto onClose = std::make_shared<Napi::FunctionReference>(std::move(onClose_));
  onClose_ = Napi::FunctionReference();
  onPacket_.Reset();
  reactor_->soon(
      [onClose, error = std::move(error)](Napi::Env env) { onClose->Call({error ? error->toJs(env).Value() : env.Undefined()}); });
}

}  // namespace culvert
