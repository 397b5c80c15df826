#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "address.h"
#include "load_histogram.h"

namespace culvert {

enum class LoadMode { connections, roundTrips, bulk };

/** What the threads of one run do, told by the thread that keeps the time. */
enum class LoadPhase { warm, measure, stop };

struct LoadPlan {
  LoadMode mode;
  SocketAddress destination;
  unsigned threads;
  unsigned warmMs;
  unsigned measureMs;
  /** of one round trip; bulk writes in pieces of its own */
  unsigned bytes;
  /** read when measuring begins and ends */
  std::vector<std::string> snapshots;
};

/** Highest errno told apart; the last place is the peer's end of a connection. */
constexpr size_t kErrors = 135;
constexpr int kPeerClosed = 134;

/** One thread's, so that nothing is shared while measuring. */
struct LoadCounts {
  /** within the measured time, and in all */
  uint64_t operations = 0;
  uint64_t allOperations = 0;
  uint64_t bytes = 0;
  uint64_t allBytes = 0;
  /** connections that were established, in all */
  uint64_t connections = 0;
  std::array<uint64_t, kErrors> errors{};
  Histogram latencies;
};

/** One thread of load: blocking calls on one connection at a time, until the phase is stop. */
void runLoadClient(const LoadPlan& plan, const std::atomic<LoadPhase>& phase, LoadCounts& counts);

}  // namespace culvert
