#include "bpf_object.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include "arguments.h"
#include "bpf_log.h"
#include "bpf_rodata.h"
#include "error.h"
#include "fd.h"
#include "memlock.h"
#include "signals.h"

namespace culvert {

namespace {

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, ObjectCloser>;

/** Shared by the JS object's close() and its finalizer: whichever comes first closes. */
struct Loaded {
  Object object;
};

/** Marks our own wrapped objects, so that bpfInstructions refuses any other object instead of reading through it. */
constexpr napi_type_tag kLoadedTag = {0x6d0c1a0b57ee4f11, 0x9f4b7d1e2a8c3355};

bpf_map* findMap(bpf_object* object, const std::string& name) {
  bpf_map* map = bpf_object__find_map_by_name(object, name.c_str());
  if (map == nullptr) throw SystemError(ENOENT, "bpf_object__find_map_by_name", "no map " + name);
  return map;
}

void setMaxEntries(bpf_object* object, const Napi::Object& sizes) {
  for (const auto& entry : sizes) {
    const std::string name = text(entry.first);
    const int result = bpf_map__set_max_entries(findMap(object, name), unsignedInteger(entry.second));
    if (result < 0) throw SystemError(-result, "bpf_map__set_max_entries", "map " + name);
  }
}

/** libbpf takes over whatever the pin is; a map of another layout would be read and written as if it were ours. */
void requireSameLayout(const bpf_map* map, int pinned, const std::string& path) {
  bpf_map_info info{};
  uint32_t length = sizeof info;
  check(bpf_obj_get_info_by_fd(pinned, &info, &length), "bpf(BPF_OBJ_GET_INFO_BY_FD)", path);
  const auto shape = [](uint32_t type, uint32_t key, uint32_t value) {
    return "type " + std::to_string(type) + " key " + std::to_string(key) + " value " + std::to_string(value);
  };
  const std::string have = shape(info.type, info.key_size, info.value_size);
  const std::string want = shape(bpf_map__type(map), bpf_map__key_size(map), bpf_map__value_size(map));
  if (have != want) {
    throw SystemError(EINVAL, "bpf_map__reuse_fd",
                      "map " + std::string(bpf_map__name(map)) + " pinned at " + path + " is " + have + ", the object wants " + want)
        .with("map", bpf_map__name(map));
  }
}

void reusePins(bpf_object* object, const Napi::Object& pins) {
  for (const auto& entry : pins) {
    bpf_map* map = findMap(object, text(entry.first));
    const std::string path = text(entry.second);
    const Fd pinned(check(bpf_obj_get(path.c_str()), "bpf(BPF_OBJ_GET)", path));
    requireSameLayout(map, pinned.get(), path);
    const int result = bpf_map__reuse_fd(map, pinned.get());
    if (result < 0) throw SystemError(-result, "bpf_map__reuse_fd", path);
  }
}

void choosePrograms(bpf_object* object, const Napi::Value& names) {
  if (names.IsUndefined()) return;
  std::set<std::string> wanted;
  const auto list = names.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) wanted.insert(text(list.Get(i)));
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) bpf_program__set_autoload(program, wanted.erase(bpf_program__name(program)) > 0);
  if (!wanted.empty()) throw SystemError(ENOENT, "bpf_object__find_program_by_name", "no program " + *wanted.begin());
}

int attachType(const bpf_program* program) {
  // The kernel wants no expected attach type for sockops programs, but a link needs one.
  if (bpf_program__type(program) == BPF_PROG_TYPE_SOCK_OPS) return BPF_CGROUP_SOCK_OPS;
  return bpf_program__expected_attach_type(program);
}

std::string tagOf(int fd) {
  bpf_prog_info info{};
  uint32_t length = sizeof info;
  check(bpf_obj_get_info_by_fd(fd, &info, &length), "bpf(BPF_OBJ_GET_INFO_BY_FD)");
  return hex({info.tag, sizeof info.tag});
}

Napi::Array describePrograms(Napi::Env env, bpf_object* object) {
  auto list = Napi::Array::New(env);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    const int fd = bpf_program__fd(program);
    if (fd < 0) continue;
    auto entry = Napi::Object::New(env);
    entry.Set("fd", fd);
    entry.Set("name", bpf_program__name(program));
    entry.Set("section", bpf_program__section_name(program));
    entry.Set("attachType", attachType(program));
    entry.Set("tag", tagOf(fd));
    list.Set(list.Length(), entry);
  }
  return list;
}

Napi::Array describeMaps(Napi::Env env, bpf_object* object) {
  auto list = Napi::Array::New(env);
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    auto entry = Napi::Object::New(env);
    entry.Set("name", bpf_map__name(map));
    entry.Set("fd", bpf_map__fd(map));
    entry.Set("type", static_cast<int>(bpf_map__type(map)));
    entry.Set("keySize", bpf_map__key_size(map));
    entry.Set("valueSize", bpf_map__value_size(map));
    entry.Set("maxEntries", bpf_map__max_entries(map));
    list.Set(list.Length(), entry);
  }
  return list;
}

Napi::Object wrap(Napi::Env env, Object object) {
  auto result = Napi::Object::New(env);
  result.Set("programs", describePrograms(env, object.get()));
  result.Set("maps", describeMaps(env, object.get()));
  auto loaded = std::make_shared<Loaded>(Loaded{std::move(object)});
  result.Set("close", function(env, "close", [loaded](const Napi::CallbackInfo&) { loaded->object.reset(); }));
  auto* owner = new std::shared_ptr<Loaded>(loaded);
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Loaded>*>(data); };
  if (napi_wrap(env, result, owner, finalize, nullptr, nullptr) != napi_ok) {
    delete owner;
    throw Napi::Error::New(env);
  }
  result.TypeTag(&kLoadedTag);
  return result;
}

bpf_object* unwrap(const Napi::Value& value) {
  void* data = nullptr;
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kLoadedTag) || napi_unwrap(value.Env(), value, &data) != napi_ok)
    throw Napi::TypeError::New(value.Env(), "a loaded object was expected");
  bpf_object* object = (*static_cast<std::shared_ptr<Loaded>*>(data))->object.get();
  if (object == nullptr) throw SystemError(EBADF, "bpf_program__insns", "the object is closed");
  return object;
}

}  // namespace

Napi::Value bpfLoad(const Napi::CallbackInfo& info) {
  const Bytes file = bytes(info[0]);
  const auto options = info[1].As<Napi::Object>();
  raiseMemlock();
  LibbpfMessages messages;

  LIBBPF_OPTS(bpf_object_open_opts, open, .object_name = "culvert");
  Object object(bpf_object__open_mem(file.data(), file.size(), &open));
  if (object == nullptr) throw SystemError(systemErrno(errno), "bpf_object__open_mem", messages.text());
  setRodata(object.get(), options.Get("rodata").As<Napi::Object>());
  setMaxEntries(object.get(), options.Get("maxEntries").As<Napi::Object>());
  reusePins(object.get(), options.Get("reuse").As<Napi::Object>());
  choosePrograms(object.get(), options.Get("programs"));

  VerifierLogs logs(object.get());
  const SignalsBlocked undisturbed;
  const int result = bpf_object__load(object.get());
  if (result < 0) throw logs.explain(-result, messages.text());
  return wrap(info.Env(), std::move(object));
}

Napi::Value bpfInstructions(const Napi::CallbackInfo& info) {
  const bpf_object* object = unwrap(info[0]);
  const std::string name = text(info[1]);
  const bpf_program* program = bpf_object__find_program_by_name(object, name.c_str());
  if (program == nullptr || bpf_program__fd(program) < 0)
    throw SystemError(ENOENT, "bpf_program__insns", "program " + name + " is not loaded");
  const auto* begin = reinterpret_cast<const uint8_t*>(bpf_program__insns(program));
  return copyBytes(info.Env(), {begin, bpf_program__insn_cnt(program) * sizeof(bpf_insn)});
}

}  // namespace culvert
