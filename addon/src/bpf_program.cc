#include "bpf_program.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "bpf_log.h"
#include "error.h"
#include "fd.h"
#include "memlock.h"
#include "signals.h"

namespace culvert {

namespace {

/** A program to be loaded, in memory of its own: any thread may do it. */
struct Order {
  /** The bytes given may sit at any offset of their ArrayBuffer; instructions must be aligned. */
  std::vector<bpf_insn> instructions;
  bpf_prog_type type;
  bpf_attach_type attach;
  std::string name;
  std::string license;

  static Order of(const Napi::CallbackInfo& info) {
    const Bytes code = bytes(info[0]);
    if (code.empty() || code.size() % sizeof(bpf_insn) != 0)
      throw SystemError(EINVAL, "bpf(BPF_PROG_LOAD)", "instructions are 8 bytes each");
    Order order{std::vector<bpf_insn>(code.size() / sizeof(bpf_insn)), static_cast<bpf_prog_type>(integer(info[1])),
                static_cast<bpf_attach_type>(integer(info[2])), text(info[3]), text(info[4])};
    std::memcpy(order.instructions.data(), code.data(), code.size());
    return order;
  }

  int attempt(bpf_prog_load_opts& options) const {
    return bpf_prog_load(type, name.c_str(), license.c_str(), instructions.data(), instructions.size(), &options);
  }

  /** @return fd of the program @throws SystemError with the verifier's log */
  Fd load() const {
    raiseMemlock();
    LibbpfMessages messages;
    LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach);
    const SignalsBlocked undisturbed;
    int fd = attempt(options);
    if (fd >= 0) return Fd(fd);

    // Once more for the verifier's words: asking for a log on every load would make each one slower.
    const int error = -fd;
    const LogBuffer log;
    options.log_buf = log.data();
    options.log_size = LogBuffer::kSize;
    options.log_level = 1;
    fd = attempt(options);
    if (fd >= 0) return Fd(fd);
    throw rejected(error, name, log.data(), messages.text());
  }
};

/** On a thread of libuv's pool. */
class Loading : public Napi::AsyncWorker {
 public:
  Loading(Napi::Env env, Order order) : AsyncWorker(env), order_(std::move(order)), deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    try {
      program_ = order_.load();
    } catch (const SystemError& error) {
      refusal_ = error;
    } catch (const std::bad_alloc&) {  // of instructions or log: whoever waits must hear of it
      refusal_ = SystemError(ENOMEM, "bpf(BPF_PROG_LOAD)");
    }
  }
  void OnOK() override {
    if (refusal_) return deferred_.Reject(refusal_->toJs(Env()).Value());
    deferred_.Resolve(Napi::Number::New(Env(), program_.release()));
  }

 private:
  const Order order_;
  const Napi::Promise::Deferred deferred_;
  Fd program_;
  std::optional<SystemError> refusal_;
};

}  // namespace

Napi::Value bpfProgLoad(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), Order::of(info).load().release()); }

Napi::Value bpfProgLoadAside(const Napi::CallbackInfo& info) {
  auto* loading = new Loading(info.Env(), Order::of(info));  // deletes itself
  const Napi::Promise promise = loading->promise();
  loading->Queue();
  return promise;
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
