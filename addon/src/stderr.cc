/**
 * libbpf.a refers to libc's `stderr` by an address that only an executable can have. The linker's --wrap=stderr sends that
 * reference here, to a copy of the pointer inside this shared object.
 */
#include <cstdio>

extern "C" {
extern FILE* __real_stderr;
__attribute__((visibility("hidden"))) FILE* __wrap_stderr;
}

__attribute__((constructor)) static void takeStderr() { __wrap_stderr = __real_stderr; }
