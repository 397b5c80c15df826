#include "bpf_kind.h"

#include <unistd.h>

#include "error.h"

namespace culvert {

/** BPF_OBJ_GET_INFO_BY_FD answers for any kind without saying which; the anonymous inode's name does. */
std::string bpfKind(int fd) {
  char target[64] = {};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  check(readlink(link.c_str(), target, sizeof target - 1), "readlink", link);
  const std::string name = target;
  for (const char* kind : {"map", "prog", "link"}) {
    if (name == std::string("anon_inode:bpf-") + kind || name == std::string("anon_inode:bpf_") + kind) return kind;
  }
  throw SystemError(EINVAL, "bpf(BPF_OBJ_GET_INFO_BY_FD)", name + " is no BPF object");
}

}  // namespace culvert
