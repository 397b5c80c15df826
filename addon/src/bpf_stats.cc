#include "bpf_stats.h"

#include <bpf/bpf.h>

#include "arguments.h"
#include "error.h"

namespace culvert {

Napi::Value bpfEnableStats(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), check(bpf_enable_stats(BPF_STATS_RUN_TIME), "bpf(BPF_ENABLE_STATS)"));
}

Napi::Value bpfProgramById(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), check(bpf_prog_get_fd_by_id(unsignedInteger(info[0])), "bpf(BPF_PROG_GET_FD_BY_ID)"));
}

}  // namespace culvert
