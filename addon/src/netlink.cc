#include "netlink.h"

#include <exception>
#include <vector>

namespace culvert {

namespace {

constexpr int kDumpAttempts = 8;
/** Large enough for what the kernel puts into one message of a dump (at most 32 KiB). */
constexpr size_t kReceiveSize = 32768;

struct Visitor {
  const Netlink::Visit& visit;
  std::exception_ptr failure;
};

/** libmnl is C: an exception must not pass through it. */
int visitMessage(const nlmsghdr* header, void* data) {
  auto* visitor = static_cast<Visitor*>(data);
  try {
    visitor->visit(header);
    return MNL_CB_OK;
  } catch (...) {
    visitor->failure = std::current_exception();
    return MNL_CB_STOP;
  }
}

}  // namespace

Netlink::Netlink(int bus) : bus_(bus) { open(); }

void Netlink::open() {
  socket_.reset(mnl_socket_open2(bus_, SOCK_CLOEXEC));
  if (socket_ == nullptr) throw SystemError(errno, "socket", "netlink");
  check(mnl_socket_bind(socket_.get(), 0, MNL_SOCKET_AUTOPID), "bind", "netlink");
}

Netlink::Request::Request(uint16_t type, uint16_t flags) {
  nlmsghdr* message = mnl_nlmsg_put_header(buffer_);
  message->nlmsg_type = type;
  message->nlmsg_flags = NLM_F_REQUEST | flags;
}

int Netlink::receive(uint32_t sequence, const char* syscall, const Visit& visit) {
  std::vector<char> buffer(kReceiveSize);
  const unsigned port = mnl_socket_get_portid(socket_.get());
  Visitor visitor{visit, nullptr};
  for (;;) {
    const ssize_t length = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    check(length, "recvmsg", syscall);
    errno = 0;
    const int result = mnl_cb_run(buffer.data(), static_cast<size_t>(length), sequence, port, visitMessage, &visitor);
    if (visitor.failure) std::rethrow_exception(visitor.failure);
    if (result < 0) return errno;
    if (result == MNL_CB_STOP) return 0;
  }
}

int Netlink::acknowledge(Request& request, const char* syscall) {
  nlmsghdr* message = request.header();
  message->nlmsg_flags |= NLM_F_ACK;
  message->nlmsg_seq = ++sequence_;
  check(mnl_socket_sendto(socket_.get(), message, message->nlmsg_len), "sendto", syscall);
  return receive(message->nlmsg_seq, syscall, [](const nlmsghdr*) {});
}

void Netlink::dump(Request& request, const char* syscall, const std::function<void()>& restart, const Visit& visit) {
  nlmsghdr* message = request.header();
  message->nlmsg_flags |= NLM_F_DUMP;
  for (int attempt = 1;; attempt++) {
    restart();
    message->nlmsg_seq = ++sequence_;
    check(mnl_socket_sendto(socket_.get(), message, message->nlmsg_len), "sendto", syscall);
    const int error = receive(message->nlmsg_seq, syscall, visit);
    if (error == 0) return;
    // The rest of this dump is still queued: only a new socket starts clean.
    open();
    // EINTR is NLM_F_DUMP_INTR: what was read may miss entries or hold them twice.
    if (error != EINTR || attempt == kDumpAttempts) throw SystemError(error, syscall);
  }
}

}  // namespace culvert
