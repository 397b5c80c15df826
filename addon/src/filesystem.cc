#include "filesystem.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>

#include "arguments.h"
#include "error.h"

namespace culvert {

Napi::Value statfsType(const Napi::CallbackInfo& info) {
  const std::string path = text(info[0]);
  struct statfs result {};
  check(statfs(path.c_str(), &result), "statfs", path);
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(result.f_type));
}

void mountPath(const Napi::CallbackInfo& info) {
  const std::string source = text(info[0]);
  const std::string target = text(info[1]);
  const std::string type = text(info[2]);
  check(mount(source.c_str(), target.c_str(), type.empty() ? nullptr : type.c_str(), unsignedInteger(info[3]), nullptr), "mount", target);
}

void unmountPath(const Napi::CallbackInfo& info) {
  const std::string target = text(info[0]);
  if (umount2(target.c_str(), UMOUNT_NOFOLLOW) == 0) return;
  // Somebody's open file keeps the mount busy: take it out of the tree now, the kernel frees it with the last user.
  if (errno == EBUSY && umount2(target.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) == 0) return;
  throw SystemError(errno, "umount2", target);
}

Napi::Value cgroupId(const Napi::CallbackInfo& info) {
  const std::string path = text(info[0]);
  struct {
    file_handle header;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle{};
  uint64_t id = 0;
  handle.header.handle_bytes = MAX_HANDLE_SZ;
  int mountId = 0;
  check(name_to_handle_at(AT_FDCWD, path.c_str(), &handle.header, &mountId, 0), "name_to_handle_at", path);
  // A kernfs handle is the 64-bit node id itself, which is what bpf_get_current_cgroup_id gives.
  if (handle.header.handle_bytes != sizeof id) throw SystemError(EINVAL, "name_to_handle_at", path + " is no cgroup v2 directory");
  std::memcpy(&id, handle.header.f_handle, sizeof id);
  return Napi::BigInt::New(info.Env(), id);
}

void closeFd(const Napi::CallbackInfo& info) { check(::close(integer(info[0])), "close"); }

}  // namespace culvert
