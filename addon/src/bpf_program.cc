#include "bpf_program.h"

#include <bpf/bpf.h>

#include <vector>

#include "arguments.h"
#include "bpf_log.h"
#include "error.h"
#include "fd.h"
#include "memlock.h"
#include "signals.h"

namespace culvert {

Napi::Value bpfProgLoad(const Napi::CallbackInfo& info) {
  const Bytes code = bytes(info[0]);
  const auto type = static_cast<bpf_prog_type>(integer(info[1]));
  const auto attach = static_cast<bpf_attach_type>(integer(info[2]));
  const std::string name = text(info[3]);
  const std::string license = text(info[4]);
  if (code.empty() || code.size() % sizeof(bpf_insn) != 0) throw SystemError(EINVAL, "bpf(BPF_PROG_LOAD)", "instructions are 8 bytes each");
  raiseMemlock();
  LibbpfMessages messages;

  // The bytes may sit at any offset of their ArrayBuffer; instructions must be aligned.
  std::vector<bpf_insn> instructions(code.size() / sizeof(bpf_insn));
  std::memcpy(instructions.data(), code.data(), code.size());
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach);
  const SignalsBlocked undisturbed;
  int fd = bpf_prog_load(type, name.c_str(), license.c_str(), instructions.data(), instructions.size(), &options);
  if (fd >= 0) return Napi::Number::New(info.Env(), fd);

  // Once more for the verifier's words: asking for a log on every load would make each one slower.
  const int error = -fd;
  const LogBuffer log;
  options.log_buf = log.data();
  options.log_size = LogBuffer::kSize;
  options.log_level = 1;
  fd = bpf_prog_load(type, name.c_str(), license.c_str(), instructions.data(), instructions.size(), &options);
  if (fd >= 0) return Napi::Number::New(info.Env(), fd);
  throw rejected(error, name, log.data(), messages.text());
}

Napi::Value bpfTestRun(const Napi::CallbackInfo& info) {
  const int program = integer(info[0]);
  const auto arguments = info[1].As<Napi::Object>();
  LIBBPF_OPTS(bpf_test_run_opts, run);
  std::vector<uint8_t> dataOut;
  std::vector<uint8_t> contextOut;
  const Napi::Value data = arguments.Get("data");
  const Napi::Value context = arguments.Get("ctx");
  if (!data.IsUndefined()) {
    // Some programs grow the packet; sk_lookup programs refuse any data buffer at all, so it is given only on request.
    dataOut.resize(bytes(data).size() + 256);
    run.data_in = bytes(data).data();
    run.data_size_in = static_cast<uint32_t>(bytes(data).size());
    run.data_out = dataOut.data();
    run.data_size_out = static_cast<uint32_t>(dataOut.size());
  }
  if (!context.IsUndefined()) {
    contextOut.resize(bytes(context).size());
    run.ctx_in = bytes(context).data();
    run.ctx_size_in = static_cast<uint32_t>(bytes(context).size());
    run.ctx_out = contextOut.data();
    run.ctx_size_out = static_cast<uint32_t>(contextOut.size());
  }
  run.repeat = static_cast<int>(optionalUnsigned(arguments, "repeat").value_or(1));
  check(bpf_prog_test_run_opts(program, &run), "bpf(BPF_PROG_TEST_RUN)");

  dataOut.resize(std::min<size_t>(dataOut.size(), run.data_size_out));
  contextOut.resize(std::min<size_t>(contextOut.size(), run.ctx_size_out));
  auto result = Napi::Object::New(info.Env());
  result.Set("retval", run.retval);
  result.Set("dataOut", copyBytes(info.Env(), dataOut));
  result.Set("ctxOut", copyBytes(info.Env(), contextOut));
  result.Set("duration", run.duration);
  return result;
}

}  // namespace culvert
