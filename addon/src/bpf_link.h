#pragma once
#include <napi.h>

namespace culvert {

void bpfPin(const Napi::CallbackInfo& info);
Napi::Value bpfGet(const Napi::CallbackInfo& info);
Napi::Value bpfLinkCreate(const Napi::CallbackInfo& info);
void bpfLinkUpdate(const Napi::CallbackInfo& info);
void bpfLinkDetach(const Napi::CallbackInfo& info);
Napi::Value bpfCgroupQuery(const Napi::CallbackInfo& info);

}  // namespace culvert
