#include "arguments.h"

#include <cstring>

namespace culvert {

Bytes bytes(const Napi::Value& value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw Napi::TypeError::New(value.Env(), "a Uint8Array was expected");
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

Napi::Uint8Array copyBytes(Napi::Env env, Bytes from) {
  auto array = Napi::Uint8Array::New(env, from.size());
  if (!from.empty()) std::memcpy(array.Data(), from.data(), from.size());
  return array;
}

int32_t integer(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

uint32_t unsignedInteger(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }

std::string text(const Napi::Value& value) { return value.As<Napi::String>().Utf8Value(); }

std::optional<uint32_t> optionalUnsigned(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) return std::nullopt;
  return unsignedInteger(value);
}

bool flag(const Napi::Object& object, const char* name) { return object.Get(name).ToBoolean().Value(); }

}  // namespace culvert
