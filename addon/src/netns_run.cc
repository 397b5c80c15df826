#include "netns_run.h"

#include <sys/socket.h>

#include <variant>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "fd.h"
#include "netns_operation.h"
#include "netns_thread.h"

namespace culvert {

namespace {

Operation parse(const Napi::Object& op) {
  const std::string name = text(op.Get("op"));
  if (name == "addresses") return addressesOperation();
  if (name == "link-up") return linkUpOperation(op);
  if (name == "rule") return ruleOperation(op);
  if (name == "rules") return rulesOperation(op);
  if (name == "route") return routeOperation(op);
  if (name == "routes") return routesOperation(op);
  if (name == "sysctl") return sysctlWriteOperation(op);
  if (name == "sysctl-read") return sysctlReadOperation(op);
  if (name == "sockets") return socketsOperation(op);
  if (name == "sockets-destroy") return socketsDestroyOperation(op);
  if (name == "forwarded") return forwardedOperation();
  if (name == "ipset-references") return ipsetReferencesOperation(op);
  if (name == "ipset-member") return ipsetMemberOperation(op);
  if (name == "nft-lookups") return nftLookupsOperation(op);
  if (name == "nft-chains") return nftChainsOperation();
  if (name == "nft-ruleset") return nftRulesetOperation();
  if (name == "xtables-chains") return xtablesChainsOperation();
  throw Napi::TypeError::New(op.Env(), "unknown netns operation " + name);
}

using Outcome = std::variant<Render, SystemError>;

Outcome attempt(const Operation& operation, NetnsSession& session) {
  try {
    return operation(session);
  } catch (const SystemError& error) {
    return error;
  }
}

Napi::Object toJs(Napi::Env env, const Outcome& outcome) {
  auto result = Napi::Object::New(env);
  if (const auto* error = std::get_if<SystemError>(&outcome)) {
    result.Set("ok", false);
    result.Set("code", error->code());
    result.Set("errno", error->error());
    result.Set("syscall", error->syscall());
    result.Set("message", error->what());
    return result;
  }
  result.Set("ok", true);
  if (const auto& render = std::get<Render>(outcome)) result.Set("value", render(env));
  return result;
}

}  // namespace

Napi::Value netnsRun(const Napi::CallbackInfo& info) {
  const auto ops = info[1].As<Napi::Array>();
  const bool keepGoing = info[2].ToBoolean().Value();
  std::vector<Operation> operations;
  for (uint32_t i = 0; i < ops.Length(); i++) operations.push_back(parse(ops.Get(i).As<Napi::Object>()));

  std::vector<Outcome> outcomes;
  netns::run(integer(info[0]), [&] {
    NetnsSession session;
    for (const Operation& operation : operations) {
      outcomes.push_back(attempt(operation, session));
      if (std::holds_alternative<SystemError>(outcomes.back()) && !keepGoing) break;
    }
  });

  auto results = Napi::Array::New(info.Env(), outcomes.size());
  for (uint32_t i = 0; i < outcomes.size(); i++) results.Set(i, toJs(info.Env(), outcomes[i]));
  return results;
}

Napi::Value netnsCookie(const Napi::CallbackInfo& info) {
  uint64_t cookie = 0;
  netns::run(integer(info[0]), [&] {
    const Fd socket(check(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
    socklen_t length = sizeof cookie;
    check(getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length), "getsockopt", "SO_NETNS_COOKIE");
  });
  return Napi::BigInt::New(info.Env(), cookie);
}

}  // namespace culvert
