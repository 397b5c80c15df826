#pragma once
#include <bpf/libbpf.h>

#include <map>
#include <string>

#include "arguments.h"
#include "error.h"

namespace culvert {

/** While alive, libbpf's own prints go here instead of stderr: they are the detail of an error, not output. */
class LibbpfMessages {
 public:
  LibbpfMessages();
  ~LibbpfMessages();
  LibbpfMessages(const LibbpfMessages&) = delete;
  LibbpfMessages& operator=(const LibbpfMessages&) = delete;
  /** without "libbpf: " in front of each line and without the last line's end */
  std::string text() const;
  void append(const char* message, size_t length) { text_.append(message, length); }

 private:
  std::string text_;
};

/** Anonymous memory for one verifier log. Untouched pages cost nothing, so the whole log always fits. */
class LogBuffer {
 public:
  /** The largest size that kernels before 5.11 take. */
  static constexpr size_t kSize = 0xffffff;
  LogBuffer();
  LogBuffer(LogBuffer&& other) noexcept;
  LogBuffer(const LogBuffer&) = delete;
  ~LogBuffer();
  char* data() const { return data_; }

 private:
  char* data_;
};

/** One log buffer per program to be loaded. libbpf asks the kernel for a log only after a first, silent refusal. */
class VerifierLogs {
 public:
  explicit VerifierLogs(bpf_object* object);
  /** The error of a failed load: `program` and `log` say which program was rejected, and why. */
  SystemError explain(int error, const std::string& messages) const;

 private:
  std::map<std::string, LogBuffer> logs_;
};

/** An error with the verifier's log. @param messages libbpf's words, used when there is no log (EPERM, ENOMEM) */
SystemError rejected(int error, const std::string& program, const std::string& log, const std::string& messages);

/** libbpf has error numbers of its own (from 4000 on) for files that are no BPF object. */
int systemErrno(int error);

std::string hex(Bytes from);

}  // namespace culvert
