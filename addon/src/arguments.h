#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <napi.h>

namespace culvert {

using Bytes = std::span<const uint8_t>;

/** The bytes of a Uint8Array (or Buffer), valid while the value is. @throws TypeError for anything else */
Bytes bytes(const Napi::Value& value);
Napi::Uint8Array copyBytes(Napi::Env env, Bytes from);

int32_t integer(const Napi::Value& value);
uint32_t unsignedInteger(const Napi::Value& value);
std::string text(const Napi::Value& value);

std::optional<uint32_t> optionalUnsigned(const Napi::Object& object, const char* name);
/** Absent and false are the same. */
bool flag(const Napi::Object& object, const char* name);

}  // namespace culvert
