#include "bpf_map.h"

#include "arguments.h"
#include "bpf_map_dump.h"
#include "bpf_map_shape.h"
#include "error.h"
#include "memlock.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

namespace culvert {

namespace {

/** The kernel reads key_size bytes whatever we hand it: a short key would make it read past the buffer. */
Bytes keyOf(const Napi::Value& value, const MapShape& shape) {
  const Bytes key = bytes(value);
  if (key.size() != shape.keySize)
    throw SystemError(EINVAL, "bpf(BPF_MAP)",
                      "key of " + std::to_string(key.size()) + " bytes, the map's are " + std::to_string(shape.keySize));
  return key;
}

Napi::Value lookUp(const Napi::CallbackInfo& info, int fd, const MapShape& shape) {
  const Bytes key = keyOf(info[0], shape);
  auto value = Napi::Uint8Array::New(info.Env(), shape.valueBytes);
  if (bpf_map_lookup_elem(fd, key.data(), value.Data()) == 0) return value;
  if (errno == ENOENT) return info.Env().Undefined();
  throw SystemError(errno, "bpf(BPF_MAP_LOOKUP_ELEM)");
}

void update(const Napi::CallbackInfo& info, int fd, const MapShape& shape) {
  const Bytes key = keyOf(info[0], shape);
  const Bytes value = bytes(info[1]);
  if (value.size() != shape.valueBytes)
    throw SystemError(EINVAL, "bpf(BPF_MAP)",
                      "value of " + std::to_string(value.size()) + " bytes, the map's are " + std::to_string(shape.valueBytes));
  const uint64_t flags = info[2].IsUndefined() ? 0 : unsignedInteger(info[2]);
  check(bpf_map_update_elem(fd, key.data(), value.data(), flags), "bpf(BPF_MAP_UPDATE_ELEM)");
}

/** @return whether it was there */
bool erase(int fd, const uint8_t* key) {
  if (bpf_map_delete_elem(fd, key) == 0) return true;
  // A SOCKHASH whose key is absent says EINVAL before 6.x, ENOENT after: both mean "nothing there" with a key of the right size.
  if (errno == ENOENT) return false;
  throw SystemError(errno, "bpf(BPF_MAP_DELETE_ELEM)");
}

Napi::Value remove(const Napi::CallbackInfo& info, int fd, const MapShape& shape) {
  return Napi::Boolean::New(info.Env(), erase(fd, keyOf(info[0], shape).data()));
}

/** Keys one behind the other, in one call: most of what a netns may have in a map it has not. */
Napi::Value removeAll(const Napi::CallbackInfo& info, int fd, const MapShape& shape) {
  const Bytes keys = bytes(info[0]);
  if (keys.size() % shape.keySize != 0)
    throw SystemError(EINVAL, "bpf(BPF_MAP)", "keys are " + std::to_string(shape.keySize) + " bytes each");
  uint32_t removed = 0;
  for (size_t at = 0; at < keys.size(); at += shape.keySize) removed += erase(fd, keys.data() + at) ? 1 : 0;
  return Napi::Number::New(info.Env(), removed);
}

}  // namespace

Napi::Value bpfMap(const Napi::CallbackInfo& info) {
  const int fd = integer(info[0]);
  const MapShape shape = MapShape::of(fd);
  auto handle = Napi::Object::New(info.Env());
  const auto add = [&](const char* name, auto operation) {
    handle.Set(name,
               function(info.Env(), name, [fd, shape, operation](const Napi::CallbackInfo& call) { return operation(call, fd, shape); }));
  };
  add("lookup", lookUp);
  add("update", update);
  add("delete", remove);
  add("deleteAll", removeAll);
  return handle;
}

Napi::Value bpfMapCreate(const Napi::CallbackInfo& info) {
  raiseMemlock();
  const auto shape = info[2].As<Napi::Object>();
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = unsignedInteger(shape.Get("flags")));
  const int fd = bpf_map_create(static_cast<bpf_map_type>(integer(info[0])), text(info[1]).c_str(), unsignedInteger(shape.Get("keySize")),
                                unsignedInteger(shape.Get("valueSize")), unsignedInteger(shape.Get("maxEntries")), &options);
  return Napi::Number::New(info.Env(), check(fd, "bpf(BPF_MAP_CREATE)"));
}

Napi::Value bpfMapDump(const Napi::CallbackInfo& info) {
  const auto entries = dumpMap(integer(info[0]));
  auto list = Napi::Array::New(info.Env(), entries.size());
  for (uint32_t i = 0; i < entries.size(); i++) {
    auto entry = Napi::Object::New(info.Env());
    entry.Set("key", copyBytes(info.Env(), entries[i].key));
    entry.Set("value", copyBytes(info.Env(), entries[i].value));
    list.Set(i, entry);
  }
  return list;
}

Napi::Value bpfPossibleCpus(const Napi::CallbackInfo& info) {
  const int count = libbpf_num_possible_cpus();
  if (count < 0) throw SystemError(-count, "libbpf_num_possible_cpus");
  return Napi::Number::New(info.Env(), count);
}

}  // namespace culvert
