#pragma once

namespace culvert {

/** Kernels before 5.11 charge BPF memory to RLIMIT_MEMLOCK. Refusal is ignored: newer kernels do not need it. */
void raiseMemlock();

}  // namespace culvert
