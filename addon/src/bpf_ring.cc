/**
 * A BPF ring buffer read at an interval. The programs submit with BPF_RB_NO_WAKEUP, since a wake-up per connection would cost
 * more than the event; so nothing but a clock can tell that there is something to read.
 */
#include "bpf_ring.h"

#include <bpf/libbpf.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <memory>
#include <vector>

#include "arguments.h"
#include "bpf_log.h"
#include "error.h"
#include "reactor.h"

namespace culvert {

namespace {

/** Records handed to JS in one call. More are read in a later turn, so that a flood of events cannot starve everything else. */
constexpr size_t kMaxRecords = 1024;

struct Batch {
  std::vector<uint8_t> bytes;
  std::vector<std::pair<size_t, size_t>> records;
};

int collect(void* context, void* data, size_t size) {
  auto* batch = static_cast<Batch*>(context);
  const auto* begin = static_cast<const uint8_t*>(data);
  batch->records.emplace_back(batch->bytes.size(), size);
  batch->bytes.insert(batch->bytes.end(), begin, begin + size);
  // A negative answer stops libbpf after this record, which counts as consumed.
  return batch->records.size() < kMaxRecords ? 0 : -ECANCELED;
}

struct RingFreer {
  void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

struct Ring {
  std::shared_ptr<Reactor> reactor;
  Batch batch;
  std::unique_ptr<ring_buffer, RingFreer> ring;
  Fd clock;
  Reactor::Id id = 0;
  Napi::FunctionReference onRecords;

  void close() {
    if (!clock.valid()) return;
    reactor->unwatch(id);
    clock.reset();
    ring.reset();
    onRecords.Reset();
  }

  /** One ArrayBuffer for the batch, each record a view into it. */
  Napi::Array take(Napi::Env env) {
    auto buffer = Napi::ArrayBuffer::New(env, batch.bytes.size());
    if (!batch.bytes.empty()) std::memcpy(buffer.Data(), batch.bytes.data(), batch.bytes.size());
    auto list = Napi::Array::New(env, batch.records.size());
    for (uint32_t i = 0; i < batch.records.size(); i++) {
      const auto [offset, size] = batch.records[i];
      list.Set(i, Napi::Uint8Array::New(env, size, buffer, offset));
    }
    return list;
  }

  /** @return true when there may be more */
  bool consume(Napi::Env env) {
    batch.bytes.clear();
    batch.records.clear();
    const int result = ring_buffer__consume(ring.get());
    if (result < 0 && result != -ECANCELED) throw SystemError(-result, "ring_buffer__consume");
    if (!batch.records.empty()) onRecords.Call({take(env)});
    return result == -ECANCELED;
  }
};

void consumeAll(const std::shared_ptr<Ring>& ring, Napi::Env env) {
  if (!ring->clock.valid()) return;
  const bool more = ring->consume(env);
  // The callback may have closed the ring.
  if (!ring->clock.valid()) return;
  if (more) {
    ring->reactor->soon([ring](Napi::Env later) { consumeAll(ring, later); });
  } else {
    ring->reactor->arm(ring->id, EPOLLIN);
  }
}

void tick(const std::shared_ptr<Ring>& ring, Napi::Env env) {
  uint64_t expirations = 0;
  static_cast<void>(!::read(ring->clock.get(), &expirations, sizeof expirations));
  consumeAll(ring, env);
}

Fd everyMilliseconds(uint32_t interval) {
  Fd clock(check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create"));
  itimerspec when{};
  when.it_interval = {.tv_sec = interval / 1000, .tv_nsec = long{interval % 1000} * 1'000'000};
  when.it_value = when.it_interval;
  check(timerfd_settime(clock.get(), 0, &when, nullptr), "timerfd_settime");
  return clock;
}

}  // namespace

Napi::Value bpfRingbuf(const Napi::CallbackInfo& info) {
  LibbpfMessages messages;
  auto ring = std::make_shared<Ring>();
  ring->reactor = Reactor::of(info.Env());
  ring->ring.reset(ring_buffer__new(integer(info[0]), collect, &ring->batch, nullptr));
  if (ring->ring == nullptr) throw SystemError(errno, "ring_buffer__new", messages.text());
  ring->clock = everyMilliseconds(std::max(1u, unsignedInteger(info[1])));
  ring->onRecords = Napi::Persistent(info[2].As<Napi::Function>());
  ring->id = ring->reactor->watch(ring->clock.get(), EPOLLIN, [ring](Napi::Env env, uint32_t) { tick(ring, env); });
  auto handle = Napi::Object::New(info.Env());
  handle.Set("close", function(info.Env(), "close", [ring](const Napi::CallbackInfo&) { ring->close(); }));
  return handle;
}

}  // namespace culvert
