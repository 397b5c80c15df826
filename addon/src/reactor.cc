#include "reactor.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "error.h"

namespace culvert {

namespace {

constexpr Reactor::Id kStop = 1;
constexpr Reactor::Id kAlarm = 2;

struct PerEnvironment {
  std::shared_ptr<Reactor> reactor;
};

/** What a callback throws is the program's uncaught exception, as with Node's own handles, and does not stop the callbacks after it. */
void protect(Napi::Env env, const std::function<void()>& body) {
  const Napi::HandleScope scope(env);
  try {
    intoJs(env, body);
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

void callJs(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<Reactor::Task> task(static_cast<Reactor::Task*>(data));
  if (env != nullptr) protect(env, [&] { (*task)(env); });
}

void control(int epoll, int operation, int fd, Reactor::Id id, uint32_t events) {
  epoll_event event{};
  event.events = events | EPOLLONESHOT;
  event.data.u64 = id;
  check(epoll_ctl(epoll, operation, fd, &event), "epoll_ctl");
}

}  // namespace

std::shared_ptr<Reactor> Reactor::of(Napi::Env env) {
  auto* data = env.GetInstanceData<PerEnvironment>();
  if (data == nullptr) {
    data = new PerEnvironment;
    env.SetInstanceData(data);
  }
  if (!data->reactor) {
    std::shared_ptr<Reactor> reactor(new Reactor);
    reactor->start(env);
    data->reactor = std::move(reactor);
  }
  return data->reactor;
}

void Reactor::start(Napi::Env env) {
  env_ = env;
  epoll_ = Fd(check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
  stop_ = Fd(check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
  alarm_ = Fd(check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create"));
  control(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), kStop, EPOLLIN);
  control(epoll_.get(), EPOLL_CTL_ADD, alarm_.get(), kAlarm, EPOLLIN);
  const auto name = Napi::String::New(env, "culvert");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, callJs, &call_) != napi_ok)
    throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, call_);

  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { serve(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  // Registered after the thread-safe function, so it runs before Node takes that one down under our thread.
  napi_add_env_cleanup_hook(
      env, [](void* self) { static_cast<Reactor*>(self)->stop(); }, this);
}

Reactor::~Reactor() { stop(); }

void Reactor::stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  static_cast<void>(!::write(stop_.get(), &one, sizeof one));
  thread_.join();
  {
    const std::lock_guard lock(mutex_);
    napi_release_threadsafe_function(std::exchange(call_, nullptr), napi_tsfn_abort);
  }
  // What the watches own (sockets, references to JS functions) goes while the environment still exists.
  watches_.clear();
  timers_.clear();
}

void Reactor::serve() {
  pthread_setname_np(pthread_self(), "culvert-epoll");
  std::array<epoll_event, 64> events{};
  for (;;) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    if (count < 0) continue;  // EINTR; nothing else can happen to a valid epoll descriptor
    std::vector<std::pair<Id, uint32_t>> notices;
    for (int i = 0; i < count; i++) {
      const epoll_event event = events[static_cast<size_t>(i)];
      if (event.data.u64 == kStop) return;
      notices.emplace_back(Id{event.data.u64}, uint32_t{event.events});
    }
    post([this, notices = std::move(notices)](Napi::Env env) {
      for (const auto& [id, ready] : notices) dispatch(env, id, ready);
    });
  }
}

void Reactor::dispatch(Napi::Env env, Id id, uint32_t events) {
  if (id == kAlarm) return runTimers(env);
  const auto found = watches_.find(id);
  if (found == watches_.end()) return;
  // A copy: the callback may unwatch itself.
  const std::shared_ptr<Watch> watch = found->second;
  protect(env, [&] { watch->ready(env, events); });
}

void Reactor::post(Task task) {
  const std::lock_guard lock(mutex_);
  if (call_ == nullptr) return;
  auto owned = std::make_unique<Task>(std::move(task));
  if (napi_call_threadsafe_function(call_, owned.get(), napi_tsfn_nonblocking) == napi_ok) owned.release();
}

void Reactor::hold() {
  if (holds_++ == 0 && call_ != nullptr) napi_ref_threadsafe_function(env_, call_);
}

void Reactor::release() {
  if (--holds_ == 0 && call_ != nullptr) napi_unref_threadsafe_function(env_, call_);
}

Reactor::Id Reactor::watch(int fd, uint32_t events, Ready ready) {
  const Id id = next_++;
  control(epoll_.get(), EPOLL_CTL_ADD, fd, id, events);
  watches_.emplace(id, std::make_shared<Watch>(Watch{fd, std::move(ready)}));
  hold();
  return id;
}

void Reactor::arm(Id id, uint32_t events) {
  if (const auto found = watches_.find(id); found != watches_.end()) control(epoll_.get(), EPOLL_CTL_MOD, found->second->fd, id, events);
}

void Reactor::unwatch(Id id) {
  const auto found = watches_.find(id);
  if (found == watches_.end()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second->fd, nullptr);
  watches_.erase(found);
  release();
}

Reactor::Id Reactor::after(std::chrono::milliseconds delay, Task task) {
  const Id id = next_++;
  timers_.emplace(Clock::now() + delay, Timer{id, std::move(task)});
  hold();
  setAlarm();
  return id;
}

void Reactor::cancel(Id id) {
  const auto found = std::find_if(timers_.begin(), timers_.end(), [id](const auto& timer) { return timer.second.id == id; });
  if (found == timers_.end()) return;
  timers_.erase(found);
  release();
  setAlarm();
}

void Reactor::soon(Task task) {
  hold();
  post([self = shared_from_this(), task = std::move(task)](Napi::Env env) {
    self->release();
    task(env);
  });
}

void Reactor::runTimers(Napi::Env env) {
  while (!timers_.empty() && timers_.begin()->first <= Clock::now()) {
    const Task task = std::move(timers_.begin()->second.task);
    timers_.erase(timers_.begin());
    release();
    protect(env, [&] { task(env); });
  }
  setAlarm();
}

void Reactor::setAlarm() {
  using std::chrono::nanoseconds;
  itimerspec when{};
  if (!timers_.empty()) {
    // Zero would disarm: a deadline that is past fires at once.
    const auto left = std::max(nanoseconds(1), std::chrono::duration_cast<nanoseconds>(timers_.begin()->first - Clock::now()));
    when.it_value = {.tv_sec = left.count() / 1'000'000'000, .tv_nsec = left.count() % 1'000'000'000};
  }
  timerfd_settime(alarm_.get(), 0, &when, nullptr);
  control(epoll_.get(), EPOLL_CTL_MOD, alarm_.get(), kAlarm, EPOLLIN);
}

}  // namespace culvert
