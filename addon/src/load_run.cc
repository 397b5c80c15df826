/** The benchmark's load: threads that only connect, send and receive, and one that keeps the time. Node waits for the result. */
#include "load_run.h"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "arguments.h"
#include "error.h"
#include "load_client.h"
#include "reactor.h"
#include "signals.h"

namespace culvert {

namespace {

using Clock = std::chrono::steady_clock;

/** The files' text at one moment; empty for one that cannot be read. */
struct Snapshot {
  Clock::time_point time;
  std::vector<std::string> texts;
  rusage usage;
};

struct LoadRun {
  LoadRun(LoadPlan plan, Napi::Promise::Deferred deferred) : plan(std::move(plan)), deferred(deferred) {}

  LoadPlan plan;
  Napi::Promise::Deferred deferred;
  std::vector<LoadCounts> counts;
  Snapshot before;
  Snapshot after;
  std::optional<SystemError> failure;
};

std::string readAll(const std::string& path) {
  std::string text;
  FILE* file = fopen(path.c_str(), "re");
  if (file == nullptr) return text;
  char buffer[4096];
  while (const size_t length = fread(buffer, 1, sizeof buffer, file)) text.append(buffer, length);
  fclose(file);
  return text;
}

Snapshot take(const std::vector<std::string>& paths) {
  Snapshot snapshot{Clock::now(), {}, {}};
  for (const std::string& path : paths) snapshot.texts.push_back(readAll(path));
  getrusage(RUSAGE_SELF, &snapshot.usage);
  return snapshot;
}

void perform(LoadRun& run) {
  // The processors are saturated by design; who keeps the time must not wait behind the load.
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), -10);
  run.counts.resize(run.plan.threads);
  std::atomic<LoadPhase> phase{LoadPhase::warm};
  std::vector<std::thread> threads;
  try {
    for (LoadCounts& counts : run.counts)
      threads.emplace_back([&] {
        setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 0);
        runLoadClient(run.plan, phase, counts);
      });
    std::this_thread::sleep_for(std::chrono::milliseconds(run.plan.warmMs));
    run.before = take(run.plan.snapshots);
    phase = LoadPhase::measure;
    std::this_thread::sleep_for(std::chrono::milliseconds(run.plan.measureMs));
    phase = LoadPhase::stop;
    run.after = take(run.plan.snapshots);
  } catch (const std::system_error& error) {
    phase = LoadPhase::stop;
    run.failure.emplace(error.code().value(), "pthread_create");
  }
  for (std::thread& thread : threads) thread.join();
}

Napi::Array strings(Napi::Env env, const std::vector<std::string>& texts) {
  auto array = Napi::Array::New(env);
  for (const std::string& each : texts) array.Set(array.Length(), each);
  return array;
}

std::string errorName(size_t error) {
  if (error == static_cast<size_t>(kPeerClosed)) return "EOF";
  const char* name = strerrorname_np(static_cast<int>(error));
  return name == nullptr ? std::to_string(error) : name;
}

Napi::Object result(Napi::Env env, const LoadRun& run) {
  const auto sum = std::make_unique<LoadCounts>();
  for (const LoadCounts& counts : run.counts) {
    sum->operations += counts.operations;
    sum->allOperations += counts.allOperations;
    sum->bytes += counts.bytes;
    sum->allBytes += counts.allBytes;
    sum->connections += counts.connections;
    for (size_t i = 0; i < kErrors; i++) sum->errors[i] += counts.errors[i];
    sum->latencies.add(counts.latencies);
  }
  auto errors = Napi::Object::New(env);
  for (size_t i = 0; i < kErrors; i++) {
    if (sum->errors[i] > 0) errors.Set(errorName(i), static_cast<double>(sum->errors[i]));
  }
  auto object = Napi::Object::New(env);
  const auto number = [&](const char* name, auto value) { object.Set(name, static_cast<double>(value)); };
  number("seconds", std::chrono::duration<double>(run.after.time - run.before.time).count());
  number("operations", sum->operations);
  number("allOperations", sum->allOperations);
  number("bytes", sum->bytes);
  number("allBytes", sum->allBytes);
  number("connections", sum->connections);
  number("p50", sum->latencies.quantile(0.5) / 1000);
  number("p99", sum->latencies.quantile(0.99) / 1000);
  number("p999", sum->latencies.quantile(0.999) / 1000);
  number("switches", run.after.usage.ru_nvcsw + run.after.usage.ru_nivcsw - run.before.usage.ru_nvcsw - run.before.usage.ru_nivcsw);
  object.Set("errors", errors);
  object.Set("before", strings(env, run.before.texts));
  object.Set("after", strings(env, run.after.texts));
  return object;
}

LoadMode modeOf(const std::string& name) {
  if (name == "connections") return LoadMode::connections;
  return name == "round-trips" ? LoadMode::roundTrips : LoadMode::bulk;
}

LoadPlan planOf(const Napi::Object& object) {
  LoadPlan plan{};
  plan.mode = modeOf(text(object.Get("mode")));
  const std::string address = text(object.Get("address"));
  const int family = address.find(':') == std::string::npos ? AF_INET : AF_INET6;
  plan.destination = SocketAddress::parse(family, address, static_cast<uint16_t>(unsignedInteger(object.Get("port"))));
  plan.threads = unsignedInteger(object.Get("threads"));
  plan.warmMs = unsignedInteger(object.Get("warmMs"));
  plan.measureMs = unsignedInteger(object.Get("measureMs"));
  plan.bytes = unsignedInteger(object.Get("bytes"));
  const auto snapshots = object.Get("snapshots").As<Napi::Array>();
  for (uint32_t i = 0; i < snapshots.Length(); i++) plan.snapshots.push_back(text(snapshots.Get(i)));
  return plan;
}

}  // namespace

Napi::Value loadRun(const Napi::CallbackInfo& info) {
  const auto reactor = Reactor::of(info.Env());
  const auto run = std::make_shared<LoadRun>(planOf(info[0].As<Napi::Object>()), Napi::Promise::Deferred::New(info.Env()));
  reactor->hold();
  const SignalsBlocked blocked;
  std::thread([reactor, run] {
    perform(*run);
    reactor->post([reactor, run](Napi::Env env) {
      reactor->release();
      if (run->failure) {
        run->deferred.Reject(run->failure->toJs(env).Value());
      } else {
        run->deferred.Resolve(result(env, *run));
      }
    });
  }).detach();
  return run->deferred.Promise();
}

}  // namespace culvert
