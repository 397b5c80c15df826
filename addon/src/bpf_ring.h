#pragma once
#include <napi.h>

namespace culvert {

Napi::Value bpfRingbuf(const Napi::CallbackInfo& info);

}  // namespace culvert
