#include "netns_thread.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "error.h"

namespace culvert::netns {

namespace {

class NetnsThread {
 public:
  NetnsThread() {
    // Signals are Node's business: none may be delivered here, least of all while in a pod's namespace.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { serve(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void post(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    wake_.notify_one();
  }

 private:
  [[noreturn]] void serve() {
    pthread_setname_np(pthread_self(), "culvert-netns");
    for (;;) {
      std::function<void()> work;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return !queue_.empty(); });
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      work();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
};

/** Never destroyed: the thread may still be waiting on its members while the process exits. */
NetnsThread& thread() {
  static NetnsThread& instance = *new NetnsThread;
  return instance;
}

/**
 * The namespace to come back to, opened before any other is entered. Never closed: while the process exits this thread may still be
 * on its way back.
 */
int home() {
  static const int fd = check(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), "open", "/proc/thread-self/ns/net");
  return fd;
}

class Guard {
 public:
  explicit Guard(int netnsFd) : home_(home()) { check(setns(netnsFd, CLONE_NEWNET), "setns"); }
  ~Guard() {
    if (setns(home_, CLONE_NEWNET) == 0) return;
    std::perror("culvert: setns back to the process's own network namespace");
    std::abort();
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  int home_;
};

}  // namespace

void inside(int netnsFd, const std::function<void()>& work) {
  if (netnsFd == kOwn) return work();
  const Guard guard(netnsFd);
  work();
}

void post(std::function<void()> work) { thread().post(std::move(work)); }

void run(int netnsFd, const std::function<void()>& work) {
  std::mutex mutex;
  std::condition_variable finished;
  bool done = false;
  std::exception_ptr failure;
  post([&] {
    try {
      inside(netnsFd, work);
    } catch (...) {
      failure = std::current_exception();
    }
    // Notified under the lock: the waiter owns these variables and may leave as soon as it sees `done`.
    const std::lock_guard lock(mutex);
    done = true;
    finished.notify_one();
  });
  std::unique_lock lock(mutex);
  finished.wait(lock, [&] { return done; });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace culvert::netns
