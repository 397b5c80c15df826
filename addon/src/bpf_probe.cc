#include "bpf_probe.h"

#include <bpf/bpf.h>

#include <cstring>

#include "arguments.h"
#include "bpf_log.h"
#include "error.h"
#include "fd.h"
#include "memlock.h"
#include "signals.h"

namespace culvert {

/**
 * Asks the verifier, never the version. libbpf's own probe neither takes the attach type nor knows the words that newer
 * kernels use to refuse. A call without its arguments is rejected either way: what counts is whether the *helper* was refused.
 */
Napi::Value bpfProbeHelper(const Napi::CallbackInfo& info) {
  const auto type = static_cast<bpf_prog_type>(integer(info[0]));
  const auto attach = static_cast<bpf_attach_type>(integer(info[1]));
  const int helper = integer(info[2]);
  raiseMemlock();
  LibbpfMessages silence;

  const bpf_insn code[] = {
      {.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = helper},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 1},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  const LogBuffer log;
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach, .log_level = 1, .log_size = LogBuffer::kSize,
              .log_buf = log.data());
  const SignalsBlocked undisturbed;
  const Fd program(bpf_prog_load(type, "culvert_probe", "GPL", code, std::size(code), &options));
  if (program.valid()) return Napi::Boolean::New(info.Env(), true);
  const int error = errno;
  // Without a word from the verifier it was not the helper that was refused: no privilege, or an unknown program type.
  if (log.data()[0] == '\0') {
    if (error == EINVAL) return Napi::Boolean::New(info.Env(), false);
    throw SystemError(error, "bpf(BPF_PROG_LOAD)", "helper probe");
  }
  for (const char* refusal : {"invalid func ", "unknown func ", "cannot use helper "}) {
    if (std::strstr(log.data(), refusal) != nullptr) return Napi::Boolean::New(info.Env(), false);
  }
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace culvert
