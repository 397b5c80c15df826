#pragma once
#include <csignal>

namespace culvert {

/**
 * No signal reaches this thread while it lives. The verifier gives up with EAGAIN as soon as one waits, and a program of some
 * thousand instructions is never loaded while a profiler sends SIGPROF.
 */
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace culvert
