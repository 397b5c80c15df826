/** The table of exports; see ../index.d.ts for their contract. */
#include <napi.h>

#include "bpf_info.h"
#include "bpf_link.h"
#include "bpf_map.h"
#include "bpf_object.h"
#include "bpf_probe.h"
#include "bpf_program.h"
#include "bpf_ring.h"
#include "bpf_stats.h"
#include "conntrack_watch.h"
#include "error.h"
#include "filesystem.h"
#include "load_echo.h"
#include "load_run.h"
#include "netlink_watch.h"
#include "netns_run.h"
#include "netns_socket.h"
#include "seqpacket.h"
#include "socket_fd.h"
#include "sysctl.h"

namespace culvert {

namespace {

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, auto callable) { exports.Set(name, function(env, name, callable)); };

  add("bpfLoad", bpfLoad);
  add("bpfInstructions", bpfInstructions);
  add("bpfProgLoad", bpfProgLoad);
  add("bpfProgLoadAside", bpfProgLoadAside);
  add("bpfTestRun", bpfTestRun);
  add("bpfProbeHelper", bpfProbeHelper);
  add("bpfPin", bpfPin);
  add("bpfGet", bpfGet);
  add("bpfLinkCreate", bpfLinkCreate);
  add("bpfLinkUpdate", bpfLinkUpdate);
  add("bpfLinkDetach", bpfLinkDetach);
  add("bpfCgroupQuery", bpfCgroupQuery);
  add("bpfInfo", bpfInfo);
  add("bpfEnableStats", bpfEnableStats);
  add("bpfProgramById", bpfProgramById);
  add("bpfMap", bpfMap);
  add("bpfMapCreate", bpfMapCreate);
  add("bpfMapDump", bpfMapDump);
  add("bpfPossibleCpus", bpfPossibleCpus);
  add("bpfRingbuf", bpfRingbuf);

  add("netnsCookie", netnsCookie);
  add("netnsRun", netnsRun);
  add("sysctlProc", sysctlProc);
  add("netnsWatch", netnsWatch);
  add("netnsConntrack", netnsConntrack);
  add("netnsSocket", netnsSocket);
  add("netnsConnect", netnsConnect);

  add("socketMark", socketMark);
  add("socketReuseAddr", socketReuseAddr);
  add("socketNames", socketNames);
  add("socketOriginalDestination", socketOriginalDestination);
  add("socketReset", socketReset);
  add("socketListener", socketListener);
  add("pidfdGetFd", pidfdGetFd);

  add("seqpacketListen", seqpacketListen);
  add("seqpacketConnect", seqpacketConnect);

  add("echoServer", echoServer);
  add("loadRun", loadRun);

  add("statfsType", statfsType);
  add("mount", mountPath);
  add("unmount", unmountPath);
  add("cgroupId", cgroupId);
  add("closeFd", closeFd);
  return exports;
}

}  // namespace

}  // namespace culvert

static Napi::Object initialise(Napi::Env env, Napi::Object exports) { return culvert::initialise(env, exports); }

NODE_API_MODULE(culvert, initialise)
