#include "error.h"

#include <cstring>

namespace culvert {

namespace {

std::string codeName(int error) {
  const char* name = strerrorname_np(error);
  // 524 is the kernel's own ENOTSUPP, which escapes to userspace from bpf(2) and has no name in libc.
  if (name == nullptr) return error == 524 ? "ENOTSUPP" : std::to_string(error);
  return name;
}

std::string describe(int error, const std::string& syscall, const std::string& detail) {
  const char* text = strerrordesc_np(error);
  std::string message = codeName(error) + ": " + (text != nullptr ? text : "operation not supported by the kernel") + ", " + syscall;
  if (!detail.empty()) message += ": " + detail;
  return message;
}

}  // namespace

SystemError::SystemError(int error, std::string syscall, std::string detail)
    : error_(error), syscall_(std::move(syscall)), message_(describe(error, syscall_, detail)) {}

SystemError& SystemError::with(std::string name, std::string value) {
  properties_.emplace_back(std::move(name), std::move(value));
  return *this;
}

std::string SystemError::code() const { return codeName(error_); }

Napi::Error SystemError::toJs(Napi::Env env) const {
  Napi::Error error = Napi::Error::New(env, message_);
  error.Set("code", Napi::String::New(env, code()));
  error.Set("errno", Napi::Number::New(env, error_));
  error.Set("syscall", Napi::String::New(env, syscall_));
  for (const auto& [name, value] : properties_) error.Set(name, Napi::String::New(env, value));
  return error;
}

}  // namespace culvert
