#pragma once
#include <string>

namespace culvert {

/** "map", "prog" or "link". @throws SystemError EINVAL for any other descriptor */
std::string bpfKind(int fd);

}  // namespace culvert
