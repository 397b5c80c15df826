#pragma once
#include <functional>

namespace culvert {

/**
 * The one thread that ever enters another network namespace. A namespace belongs to a thread, so doing it on Node's own would
 * leave everything else that runs there (timers, DNS, child processes) in a pod if anything went wrong in between.
 */
namespace netns {

/** The process's own namespace, for calls that take a netns descriptor. */
constexpr int kOwn = -1;

/**
 * Runs work inside the namespace and waits for it. Whatever it throws is thrown here.
 * @throws SystemError setns; when the way back fails the process aborts, because this thread would go on in a stranger's netns
 */
void run(int netnsFd, const std::function<void()>& work);

/** The same without waiting; work must not throw. The descriptor must stay open until work has run. */
void post(std::function<void()> work);

/** Enters and leaves within one scope. For code that already runs on the netns thread. */
void inside(int netnsFd, const std::function<void()>& work);

}  // namespace netns

}  // namespace culvert
