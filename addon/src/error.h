#pragma once
#include <cerrno>
#include <exception>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <napi.h>

namespace culvert {

/** A refused system call. Plain data, so that it may be thrown on any thread; it becomes a JS Error on the JS thread. */
class SystemError : public std::exception {
 public:
  /** @param error positive errno; @param detail what was being done, appended to the message */
  SystemError(int error, std::string syscall, std::string detail = {});

  /** Adds a string property to the JS error ("log", "program"). */
  SystemError& with(std::string name, std::string value);

  int error() const { return error_; }
  const std::string& syscall() const { return syscall_; }
  /** "ENOENT"; the number as text where libc has no name for it */
  std::string code() const;
  const char* what() const noexcept override { return message_.c_str(); }
  Napi::Error toJs(Napi::Env env) const;

 private:
  int error_;
  std::string syscall_;
  std::string message_;
  std::vector<std::pair<std::string, std::string>> properties_;
};

/** @throws SystemError with the current errno when result is negative; for calls that set errno. */
inline int check(long result, const char* syscall, const std::string& detail = {}) {
  if (result < 0) throw SystemError(errno, syscall, detail);
  return static_cast<int>(result);
}

/** Runs body and turns what C++ throws into what JS can catch. Every entry from JS goes through here. */
template <typename Body>
Napi::Value intoJs(Napi::Env env, Body&& body) {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
      body();
      return env.Undefined();
    } else {
      return body();
    }
  } catch (const SystemError& error) {
    throw error.toJs(env);
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

/** A JS function out of `Napi::Value f(const Napi::CallbackInfo&)` or `void f(…)`. */
template <typename Callable>
Napi::Function function(Napi::Env env, const char* name, Callable callable) {
  return Napi::Function::New(
      env,
      [callable = std::move(callable)](const Napi::CallbackInfo& info) mutable {
        return intoJs(info.Env(), [&] { return callable(info); });
      },
      name);
}

}  // namespace culvert
