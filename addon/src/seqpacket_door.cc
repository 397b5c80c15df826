/** Both ways to a seqpacket connection: a listener at a path, and connecting to one. */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>

#include "seqpacket.h"

namespace culvert {

namespace {

constexpr int kBacklog = 16;
/** Connections accepted in one turn of the loop. */
constexpr int kPerTurn = 16;
/** A pause after EMFILE and the like: the listener stays readable, and trying again at once would spin. */
constexpr std::chrono::milliseconds kBreath{100};

Fd newSocket() { return Fd(check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket", "unix")); }

sockaddr_un addressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw SystemError(ENAMETOOLONG, "bind", path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

int connectTo(const Fd& socket, const sockaddr_un& address) {
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

/** Removes what a dead listener left. A live one answers, is left alone, and bind() then says EADDRINUSE. */
void removeStale(const std::string& path, const sockaddr_un& address) {
  struct stat file {};
  if (lstat(path.c_str(), &file) < 0 || !S_ISSOCK(file.st_mode)) return;
  const Fd probe = newSocket();
  if (connectTo(probe, address) < 0 && errno == ECONNREFUSED) ::unlink(path.c_str());
}

struct Listener {
  std::shared_ptr<Reactor> reactor;
  Fd socket;
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
  size_t maxPacket = 0;
  Reactor::Id watch = 0;
  Reactor::Id pause = 0;
  Napi::FunctionReference onConnection;

  void bind(mode_t mode) {
    const sockaddr_un address = addressOf(path);
    removeStale(path, address);
    socket = newSocket();
    // bind(2) gives the file the socket's mode: it is never, not even for a moment, open to more than it should be.
    check(fchmod(socket.get(), mode), "fchmod", path);
    check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind", path);
    check(chmod(path.c_str(), mode), "chmod", path);
    struct stat file {};
    check(lstat(path.c_str(), &file), "lstat", path);
    device = file.st_dev;
    inode = file.st_ino;
    check(listen(socket.get(), kBacklog), "listen", path);
  }

  void close() {
    if (!socket.valid()) return;
    reactor->unwatch(watch);
    reactor->cancel(pause);
    socket.reset();
    onConnection.Reset();
    // Only our own file: another listener may have taken the path since.
    struct stat file {};
    if (lstat(path.c_str(), &file) == 0 && file.st_dev == device && file.st_ino == inode) ::unlink(path.c_str());
  }

  void ready(Napi::Env env) {
    for (int i = 0; i < kPerTurn && socket.valid(); i++) {
      Fd accepted(accept4(socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!accepted.valid()) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) return takeBreath();
        break;
      }
      reactor->arm(watch, EPOLLIN);
      auto connection = std::make_shared<SeqpacketConnection>(reactor, std::move(accepted), maxPacket);
      greet(env, connection);
    }
    reactor->arm(watch, EPOLLIN);
  }

  void greet(Napi::Env env, const std::shared_ptr<SeqpacketConnection>& connection) {
    try {
      connection->open(onConnection.Call({connection->toJs(env)}).As<Napi::Object>());
    } catch (...) {
      // A connection that nobody took must not stay open.
      connection->close();
      throw;
    }
  }

  void takeBreath() {
    pause = reactor->after(kBreath, [this](Napi::Env) { reactor->arm(watch, EPOLLIN); });
  }
};

}  // namespace

Napi::Value seqpacketListen(const Napi::CallbackInfo& info) {
  auto listener = std::make_shared<Listener>();
  listener->reactor = Reactor::of(info.Env());
  listener->path = text(info[0]);
  listener->maxPacket = unsignedInteger(info[2]);
  listener->bind(unsignedInteger(info[1]));
  listener->onConnection = Napi::Persistent(info[3].As<Napi::Function>());
  listener->watch =
      listener->reactor->watch(listener->socket.get(), EPOLLIN, [listener](Napi::Env env, uint32_t) { listener->ready(env); });
  auto handle = Napi::Object::New(info.Env());
  handle.Set("close", function(info.Env(), "close", [listener](const Napi::CallbackInfo&) { listener->close(); }));
  return handle;
}

Napi::Value seqpacketConnect(const Napi::CallbackInfo& info) {
  const std::string path = text(info[0]);
  Fd socket = newSocket();
  check(connectTo(socket, addressOf(path)), "connect", path);
  auto connection = std::make_shared<SeqpacketConnection>(Reactor::of(info.Env()), std::move(socket), unsignedInteger(info[1]));
  const Napi::Object result = connection->toJs(info.Env());
  connection->open(info[2].As<Napi::Object>());
  return result;
}

}  // namespace culvert
