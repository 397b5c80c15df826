#include "bpf_log.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <string_view>
#include <utility>
#include <vector>

namespace culvert {

namespace {

thread_local LibbpfMessages* collector = nullptr;

int collect(libbpf_print_level level, const char* format, va_list arguments) {
  if (collector == nullptr || level == LIBBPF_DEBUG) return 0;
  va_list again;
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, arguments);
  if (length > 0) {
    std::vector<char> buffer(static_cast<size_t>(length) + 1);
    std::vsnprintf(buffer.data(), buffer.size(), format, again);
    collector->append(buffer.data(), static_cast<size_t>(length));
  }
  va_end(again);
  return length;
}

/** The line before the counters, which is where the verifier says what it minds. */
std::string lastWords(const std::string& log) {
  std::string last;
  size_t start = 0;
  while (start < log.size()) {
    const size_t end = std::min(log.find('\n', start), log.size());
    const std::string line = log.substr(start, end - start);
    if (!line.empty() && !line.starts_with("processed ") && !line.starts_with("verification time") && !line.starts_with("stack depth"))
      last = line;
    start = end + 1;
  }
  return last;
}

}  // namespace

LibbpfMessages::LibbpfMessages() {
  collector = this;
  libbpf_set_print(collect);
}

LibbpfMessages::~LibbpfMessages() { collector = nullptr; }

std::string LibbpfMessages::text() const {
  static constexpr std::string_view prefix = "libbpf: ";
  std::string out;
  size_t start = 0;
  while (start < text_.size()) {
    const size_t end = std::min(text_.find('\n', start), text_.size());
    std::string_view line(text_.data() + start, end - start);
    if (line.starts_with(prefix)) line.remove_prefix(prefix.size());
    if (!line.empty()) out.append(out.empty() ? "" : "\n").append(line);
    start = end + 1;
  }
  return out;
}

LogBuffer::LogBuffer()
    : data_(static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
  if (data_ == MAP_FAILED) throw SystemError(errno, "mmap", "verifier log");
}

LogBuffer::LogBuffer(LogBuffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}

LogBuffer::~LogBuffer() {
  if (data_ != nullptr) munmap(data_, kSize);
}

VerifierLogs::VerifierLogs(bpf_object* object) {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    if (!bpf_program__autoload(program)) continue;
    const auto& [name, log] = *logs_.emplace(bpf_program__name(program), LogBuffer()).first;
    bpf_program__set_log_buf(program, log.data(), LogBuffer::kSize);
  }
}

SystemError VerifierLogs::explain(int error, const std::string& messages) const {
  for (const auto& [name, log] : logs_) {
    if (log.data()[0] != '\0') return rejected(error, name, log.data(), messages);
  }
  // No program got as far as the verifier: a map could not be created, or bpf(2) itself was refused.
  return SystemError(systemErrno(error), "bpf_object__load", messages);
}

SystemError rejected(int error, const std::string& program, const std::string& log, const std::string& messages) {
  std::string detail = "program " + program;
  if (const std::string words = lastWords(log); !words.empty()) {
    detail += ": " + words;
  } else if (!messages.empty()) {
    detail += ": " + messages;
  }
  SystemError failure(error, "bpf(BPF_PROG_LOAD)", detail);
  failure.with("program", program).with("log", log);
  return failure;
}

int systemErrno(int error) { return error >= 4000 ? ENOEXEC : error; }

std::string hex(Bytes from) {
  std::string out;
  for (const uint8_t byte : from) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    out += digits;
  }
  return out;
}

}  // namespace culvert
