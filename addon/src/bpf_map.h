#pragma once
#include <napi.h>

namespace culvert {

Napi::Value bpfMap(const Napi::CallbackInfo& info);
Napi::Value bpfMapCreate(const Napi::CallbackInfo& info);
Napi::Value bpfMapDump(const Napi::CallbackInfo& info);
Napi::Value bpfPossibleCpus(const Napi::CallbackInfo& info);

}  // namespace culvert
