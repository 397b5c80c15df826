#include "load_client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>

#include "fd.h"

namespace culvert {

namespace {

using Clock = std::chrono::steady_clock;

/** Longer than a SYN's first repetition, so that a lost one shows as latency; what takes longer is an error. */
constexpr timeval kTimeout{.tv_sec = 3, .tv_usec = 0};
constexpr auto kPause = std::chrono::milliseconds(1);
constexpr size_t kPiece = 128 * 1024;

class Client {
 public:
  Client(const LoadPlan& plan, const std::atomic<LoadPhase>& phase, LoadCounts& counts)
      : plan_(plan), phase_(phase), counts_(counts), data_(kPiece, plan.mode == LoadMode::bulk ? 'S' : 'E') {}

  void run() {
    while (phase_.load(std::memory_order_relaxed) != LoadPhase::stop) {
      const Clock::time_point begin = Clock::now();
      if (!socket_.valid() && !dial()) continue;
      const size_t size = sizeOf();
      if (!exchange(size)) continue;
      if (plan_.mode == LoadMode::connections) socket_.reset();
      count(begin, size);
    }
  }

 private:
  size_t sizeOf() const {
    switch (plan_.mode) {
      case LoadMode::connections:
        return 1;
      case LoadMode::roundTrips:
        return plan_.bytes;
      default:
        return kPiece;
    }
  }

  bool dial() {
    Fd socket(::socket(plan_.destination.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) return failed(errno);
    const int one = 1;
    setsockopt(socket.get(), SOL_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kTimeout, sizeof kTimeout);
    setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof kTimeout);
    if (::connect(socket.get(), plan_.destination.get(), plan_.destination.length) < 0)
      return failed(errno == EINPROGRESS ? ETIMEDOUT : errno);
    counts_.connections++;
    socket_ = std::move(socket);
    return true;
  }

  /** Bulk only writes. */
  bool exchange(size_t size) {
    const ssize_t sent = ::send(socket_.get(), data_.data(), size, MSG_NOSIGNAL);
    if (sent < 0) return failed(errno == EAGAIN ? ETIMEDOUT : errno);
    if (plan_.mode == LoadMode::bulk) return true;
    for (size_t received = 0; received < size;) {
      const ssize_t length = ::recv(socket_.get(), data_.data(), size - received, 0);
      if (length == 0) return failed(kPeerClosed);
      if (length < 0) return failed(errno == EAGAIN ? ETIMEDOUT : errno);
      received += static_cast<size_t>(length);
    }
    return true;
  }

  void count(Clock::time_point begin, size_t size) {
    counts_.allOperations++;
    counts_.allBytes += size;
    if (phase_.load(std::memory_order_relaxed) != LoadPhase::measure) return;
    counts_.operations++;
    counts_.bytes += size;
    counts_.latencies.record(static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now() - begin).count()));
  }

  bool failed(int error) {
    socket_.reset();
    counts_.errors[static_cast<size_t>(error) < kErrors ? static_cast<size_t>(error) : EIO]++;
    std::this_thread::sleep_for(kPause);  // who is refused at once must not ask a million times
    return false;
  }

  const LoadPlan& plan_;
  const std::atomic<LoadPhase>& phase_;
  LoadCounts& counts_;
  std::vector<char> data_;
  Fd socket_;
};

}  // namespace

void runLoadClient(const LoadPlan& plan, const std::atomic<LoadPhase>& phase, LoadCounts& counts) { Client(plan, phase, counts).run(); }

}  // namespace culvert
