/**
 * The benchmark's server: accepts and echoes on threads of its own, without Node. A connection whose first byte is 'S' is a sink: what
 * comes is counted and thrown away. Listeners may be in different network namespaces; all threads serve all of them.
 */
#include "load_echo.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

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
constexpr uint64_t kListener = uint64_t{1} << 32;
constexpr uint64_t kStop = uint64_t{1} << 33;

struct Listener {
  Fd socket;
  std::atomic<uint64_t> accepted{0};
  std::atomic<uint64_t> bytes{0};
};

/** Touched by the one thread that accepted the connection. */
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

  size_t listen(Fd socket) {
    listeners_.push_back(std::make_unique<Listener>());
    const size_t id = listeners_.size() - 1;
    listeners_[id]->socket = std::move(socket);
    // A waiting connection wakes one thread, not all.
    for (const Fd& epoll : epolls_)
      watch(epoll.get(), listeners_[id]->socket.get(), EPOLLIN | EPOLLEXCLUSIVE, kListener | reinterpretAs(listeners_[id].get()));
    return id;
  }

  /** shutdown() ends it at once for every thread; the counts stay, and so does the object, which open connections still name. */
  void unlisten(size_t id) {
    Listener& listener = *listeners_.at(id);
    if (!listener.socket.valid()) return;
    ::shutdown(listener.socket.get(), SHUT_RDWR);
    for (const Fd& epoll : epolls_) epoll_ctl(epoll.get(), EPOLL_CTL_DEL, listener.socket.get(), nullptr);
    listener.socket.reset();
  }

  const Listener& listener(size_t id) const { return *listeners_.at(id); }

  void close() {
    if (threads_.empty()) return;
    const uint64_t one = 1;
    static_cast<void>(!::write(stop_.get(), &one, sizeof one));
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    for (size_t id = 0; id < listeners_.size(); id++) unlisten(id);
  }

 private:
  static void watch(int epoll, int fd, uint32_t events, uint64_t data) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  }
