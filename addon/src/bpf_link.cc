#include "bpf_link.h"

#include <bpf/bpf.h>

#include <vector>

#include "arguments.h"
#include "error.h"

namespace culvert {

void bpfPin(const Napi::CallbackInfo& info) {
  const std::string path = text(info[1]);
  check(bpf_obj_pin(integer(info[0]), path.c_str()), "bpf(BPF_OBJ_PIN)", path);
}

Napi::Value bpfGet(const Napi::CallbackInfo& info) {
  const std::string path = text(info[0]);
  return Napi::Number::New(info.Env(), check(bpf_obj_get(path.c_str()), "bpf(BPF_OBJ_GET)", path));
}

Napi::Value bpfLinkCreate(const Napi::CallbackInfo& info) {
  const auto type = static_cast<bpf_attach_type>(integer(info[2]));
  const int fd = bpf_link_create(integer(info[0]), integer(info[1]), type, nullptr);
  return Napi::Number::New(info.Env(), check(fd, "bpf(BPF_LINK_CREATE)", "attach type " + std::to_string(type)));
}

void bpfLinkUpdate(const Napi::CallbackInfo& info) {
  check(bpf_link_update(integer(info[0]), integer(info[1]), nullptr), "bpf(BPF_LINK_UPDATE)");
}

void bpfLinkDetach(const Napi::CallbackInfo& info) { check(bpf_link_detach(integer(info[0])), "bpf(BPF_LINK_DETACH)"); }

Napi::Value bpfCgroupQuery(const Napi::CallbackInfo& info) {
  const int cgroup = integer(info[0]);
  const auto type = static_cast<bpf_attach_type>(integer(info[1]));
  std::vector<uint32_t> ids(64);
  for (;;) {
    auto count = static_cast<uint32_t>(ids.size());
    const int result = bpf_prog_query(cgroup, type, 0, nullptr, ids.data(), &count);
    if (result < 0 && errno == ENOSPC) {
      ids.resize(ids.size() * 2);
      continue;
    }
    check(result, "bpf(BPF_PROG_QUERY)");
    auto list = Napi::Array::New(info.Env(), count);
    for (uint32_t i = 0; i < count; i++) list.Set(i, ids[i]);
    return list;
  }
}

}  // namespace culvert
