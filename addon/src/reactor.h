#pragma once
#include <napi.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "fd.h"

namespace culvert {

/**
 * Readiness of file descriptors for the JS thread. One thread sits in epoll and only tells; reading, writing and everything else
 * happens on the JS thread, so nothing above this needs a lock. Every watch and timer keeps Node's loop alive, as its own handles do.
 */
class Reactor : public std::enable_shared_from_this<Reactor> {
 public:
  using Id = uint64_t;
  using Task = std::function<void(Napi::Env)>;
  using Ready = std::function<void(Napi::Env, uint32_t events)>;

  /** The one of this environment, started when first asked for. */
  static std::shared_ptr<Reactor> of(Napi::Env env);
  ~Reactor();

  // ---- on the JS thread only

  /** Watches for EPOLL* events. One notice, then silence until arm(): a busy descriptor cannot flood a busy JS thread. */
  Id watch(int fd, uint32_t events, Ready ready);
  void arm(Id watch, uint32_t events);
  /** Before the descriptor is closed. Unknown ids are ignored; a notice already under way is dropped. */
  void unwatch(Id watch);
  Id after(std::chrono::milliseconds delay, Task task);
  void cancel(Id timer);
  /** In a later turn of the loop. */
  void soon(Task task);
  /** Keeps the loop alive for work under way on another thread, which ends with post() and release(). */
  void hold();
  void release();

  // ---- on any thread

  /** Runs the task on the JS thread; it is destroyed unrun when the environment is going away. */
  void post(Task task);

 private:
  struct Watch {
    int fd;
    Ready ready;
  };
  struct Timer {
    Id id;
    Task task;
  };
  using Clock = std::chrono::steady_clock;

  Reactor() = default;
  void start(Napi::Env env);
  void stop();
  void serve();
  void dispatch(Napi::Env env, Id id, uint32_t events);
  void runTimers(Napi::Env env);
  void setAlarm();

  napi_env env_ = nullptr;
  Fd epoll_;
  Fd stop_;
  Fd alarm_;
  std::thread thread_;
  std::mutex mutex_;
  napi_threadsafe_function call_ = nullptr;
  uint32_t holds_ = 0;
  Id next_ = 16;
  std::unordered_map<Id, std::shared_ptr<Watch>> watches_;
  std::multimap<Clock::time_point, Timer> timers_;
};

}  // namespace culvert
