/**
 * The benchmark's server: accepts and echoes on threads of its own, without Node. A connection whose first byte is 'S' is a sink: what
 * comes is counted and thrown away. Listeners may be in different network namespaces; all threads serve all of them.
 *
 * The threads take a listener's connections in turn. If each kept what it accepts, chance would decide whether eight kept connections
 * share one thread or two, run by run, and that is a larger difference than between two redirects.
 */
#include "load_echo.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "fd.h"
#include "netns_thread.h"
#include "signals.h"
#include "socket_options.h"

namespace culvert {

namespace {

constexpr size_t kBuffer = 256 * 1024;
/** Connections are found by their descriptor; one beyond this is refused. */
constexpr size_t kMostFds = 65536;
/** What an epoll event is about: one of these bits, or a connection's descriptor. Pointers to user space have neither. */
constexpr uint64_t kListener = uint64_t{1} << 63;
constexpr uint64_t kStop = uint64_t{1} << 62;

struct Listener {
  Fd socket;
  std::atomic<uint64_t> accepted{0};
  std::atomic<uint64_t> bytes{0};
};

/** Filled by who accepts, before the connection's own thread hears of it, and from then on that thread's. */
struct Connection {
  Listener* listener;
  bool fresh;
  bool sink;
};

class EchoServer {
 public:
  explicit EchoServer(unsigned threads) : stop_(check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
    const SignalsBlocked blocked;
    for (unsigned i = 0; i < threads; i++) {
      epolls_.emplace_back(check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
      watch(epolls_.back().get(), stop_.get(), EPOLLIN, kStop);
    }
    for (const Fd& epoll : epolls_) threads_.emplace_back([this, fd = epoll.get()] { serve(fd); });
  }
  ~EchoServer() { close(); }
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;

  size_t listen(Fd socket) {
    listeners_.push_back(std::make_unique<Listener>());
    Listener& listener = *listeners_.back();
    listener.socket = std::move(socket);
    // A waiting connection wakes one thread, not all.
    for (const Fd& epoll : epolls_)
      watch(epoll.get(), listener.socket.get(), EPOLLIN | EPOLLEXCLUSIVE, kListener | reinterpret_cast<uint64_t>(&listener));
    return listeners_.size() - 1;
  }

  /**
   * Its open connections go on. A thread may be about to accept: the descriptor's number stays taken, by something that is no socket,
   * until all threads have ended.
   */
  void unlisten(size_t id) {
    const Fd& socket = listeners_.at(id)->socket;
    for (const Fd& epoll : epolls_) epoll_ctl(epoll.get(), EPOLL_CTL_DEL, socket.get(), nullptr);
    check(dup3(stop_.get(), socket.get(), O_CLOEXEC), "dup3");
  }

  const Listener& listener(size_t id) const { return *listeners_.at(id); }

  void close() {
    const uint64_t one = 1;
    static_cast<void>(!::write(stop_.get(), &one, sizeof one));
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    for (const auto& listener : listeners_) listener->socket.reset();
  }

 private:
  static void watch(int epoll, int fd, uint32_t events, uint64_t data) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  }

  void serve(int epoll) {
    pthread_setname_np(pthread_self(), "culvert-echo");
    const auto buffer = std::make_unique<std::array<char, kBuffer>>();
    std::array<epoll_event, 64> events{};
    for (;;) {
      const int count = epoll_wait(epoll, events.data(), events.size(), -1);
      for (int i = 0; i < count; i++) {
        const uint64_t what = events[static_cast<size_t>(i)].data.u64;
        if (what == kStop) return;
        if ((what & kListener) != 0) {
          accept(*reinterpret_cast<Listener*>(what & ~kListener));
        } else {
          answer(static_cast<int>(what), buffer->data());
        }
      }
    }
  }

  void accept(Listener& listener) {
    const int fd = accept4(listener.socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;  // another thread was faster, or the client is gone again
    const uint64_t before = listener.accepted.fetch_add(1, std::memory_order_relaxed);
    if (static_cast<size_t>(fd) >= kMostFds) {
      ::close(fd);
      return;
    }
    connections_[static_cast<size_t>(fd)] = {&listener, true, false};
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = static_cast<uint64_t>(fd);
    if (epoll_ctl(epolls_[before % epolls_.size()].get(), EPOLL_CTL_ADD, fd, &event) < 0) ::close(fd);
  }

  void answer(int fd, char* buffer) {
    Connection& connection = connections_[static_cast<size_t>(fd)];
    const ssize_t length = ::read(fd, buffer, kBuffer);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (length <= 0) {
      ::close(fd);
      return;
    }
    connection.listener->bytes.fetch_add(static_cast<uint64_t>(length), std::memory_order_relaxed);
    if (connection.fresh) connection.sink = buffer[0] == 'S';
    connection.fresh = false;
    // A client that sends more than its socket takes back is none of ours: its connection ends, and it counts an error.
    if (!connection.sink && ::send(fd, buffer, static_cast<size_t>(length), MSG_NOSIGNAL) != length) ::close(fd);
  }

  Fd stop_;
  std::vector<Fd> epolls_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::array<Connection, kMostFds> connections_{};
  std::vector<std::thread> threads_;
};

}  // namespace

Napi::Value echoServer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto server = std::make_shared<EchoServer>(unsignedInteger(info[0]));
  auto handle = Napi::Object::New(env);
  handle.Set("listen", function(env, "listen", [server](const Napi::CallbackInfo& call) -> Napi::Value {
               const SocketOptions options = SocketOptions::read(call[1].As<Napi::Object>());
               Fd socket;
               netns::run(integer(call[0]), [&] { socket = makeSocket(options); });
               return Napi::Number::New(call.Env(), static_cast<double>(server->listen(std::move(socket))));
             }));
  handle.Set("unlisten",
             function(env, "unlisten", [server](const Napi::CallbackInfo& call) { server->unlisten(unsignedInteger(call[0])); }));
  handle.Set("counts", function(env, "counts", [server](const Napi::CallbackInfo& call) -> Napi::Value {
               const Listener& listener = server->listener(unsignedInteger(call[0]));
               auto counts = Napi::Object::New(call.Env());
               counts.Set("accepted", static_cast<double>(listener.accepted.load(std::memory_order_relaxed)));
               counts.Set("bytes", static_cast<double>(listener.bytes.load(std::memory_order_relaxed)));
               return counts;
             }));
  handle.Set("close", function(env, "close", [server](const Napi::CallbackInfo&) { server->close(); }));
  return handle;
}

}  // namespace culvert
