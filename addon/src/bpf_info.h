#pragma once
#include <napi.h>

namespace culvert {

Napi::Value bpfInfo(const Napi::CallbackInfo& info);

}  // namespace culvert
