#include "memlock.h"

#include <sys/resource.h>

namespace culvert {

void raiseMemlock() {
  static const bool once = [] {
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    return setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0;
  }();
  static_cast<void>(once);
}

}  // namespace culvert
