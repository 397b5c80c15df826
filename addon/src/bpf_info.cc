#include "bpf_info.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "arguments.h"
#include "bpf_kind.h"
#include "bpf_log.h"
#include "error.h"

namespace culvert {

namespace {

template <typename Info>
void query(int fd, Info& info) {
  uint32_t length = sizeof info;
  check(bpf_obj_get_info_by_fd(fd, &info, &length), "bpf(BPF_OBJ_GET_INFO_BY_FD)");
}

void describeMap(int fd, Napi::Object result) {
  bpf_map_info info{};
  query(fd, info);
  result.Set("id", info.id);
  result.Set("name", info.name);
  result.Set("type", info.type);
  result.Set("keySize", info.key_size);
  result.Set("valueSize", info.value_size);
  result.Set("maxEntries", info.max_entries);
  // Only fdinfo knows what a map costs.
  const std::string path = "/proc/self/fdinfo/" + std::to_string(fd);
  if (FILE* file = fopen(path.c_str(), "re"); file != nullptr) {
    char line[128];
    unsigned long long memlock = 0;
    while (fgets(line, sizeof line, file) != nullptr) {
      if (sscanf(line, "memlock: %llu", &memlock) == 1) result.Set("memlock", static_cast<double>(memlock));
    }
    fclose(file);
  }
}

void describeProgram(int fd, Napi::Object result) {
  bpf_prog_info info{};
  query(fd, info);
  std::vector<uint32_t> maps(info.nr_map_ids);
  bpf_prog_info again{};
  again.nr_map_ids = info.nr_map_ids;
  again.map_ids = reinterpret_cast<uint64_t>(maps.data());
  query(fd, again);
  result.Set("id", info.id);
  result.Set("name", info.name);
  result.Set("type", info.type);
  result.Set("tag", hex({info.tag, sizeof info.tag}));
  result.Set("runTimeNs", static_cast<double>(info.run_time_ns));
  result.Set("runCount", static_cast<double>(info.run_cnt));
  auto ids = Napi::Array::New(result.Env());
  for (const uint32_t id : maps) ids.Set(ids.Length(), id);
  result.Set("mapIds", ids);
}

void describeLink(int fd, Napi::Object result) {
  bpf_link_info info{};
  query(fd, info);
  result.Set("id", info.id);
  result.Set("name", "");
  result.Set("type", info.type);
  result.Set("progId", info.prog_id);
  if (info.type == BPF_LINK_TYPE_CGROUP) {
    result.Set("cgroupId", Napi::BigInt::New(result.Env(), static_cast<uint64_t>(info.cgroup.cgroup_id)));
    result.Set("attachType", info.cgroup.attach_type);
  }
  if (info.type == BPF_LINK_TYPE_NETNS) {
    result.Set("netnsIno", info.netns.netns_ino);
    result.Set("attachType", info.netns.attach_type);
  }
}

}  // namespace

Napi::Value bpfInfo(const Napi::CallbackInfo& info) {
  const int fd = integer(info[0]);
  const std::string kind = bpfKind(fd);
  auto result = Napi::Object::New(info.Env());
  result.Set("kind", kind);
  if (kind == "map") describeMap(fd, result);
  if (kind == "prog") describeProgram(fd, result);
  if (kind == "link") describeLink(fd, result);
  return result;
}

}  // namespace culvert
