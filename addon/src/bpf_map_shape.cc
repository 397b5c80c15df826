#include "bpf_map_shape.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "bpf_kind.h"
#include "error.h"

namespace culvert {

MapShape MapShape::of(int fd) {
  // A program's info read as a map's would have us allocate by its timestamps.
  if (bpfKind(fd) != "map") throw SystemError(EINVAL, "bpf(BPF_OBJ_GET_INFO_BY_FD)", "no map");
  bpf_map_info info{};
  uint32_t length = sizeof info;
  check(bpf_obj_get_info_by_fd(fd, &info, &length), "bpf(BPF_OBJ_GET_INFO_BY_FD)");
  size_t valueBytes = info.value_size;
  switch (info.type) {
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_ARRAY: {
      const int cpus = libbpf_num_possible_cpus();
      if (cpus < 0) throw SystemError(-cpus, "libbpf_num_possible_cpus");
      valueBytes = (valueBytes + 7) / 8 * 8 * static_cast<size_t>(cpus);
      break;
    }
    default:
      break;
  }
  return {info.type, info.key_size, info.max_entries, valueBytes};
}

}  // namespace culvert
