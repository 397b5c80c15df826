#pragma once
#include <libmnl/libmnl.h>

#include <functional>
#include <memory>

#include "error.h"

namespace culvert {

/** A netlink socket of the namespace in which it was made. */
class Netlink {
 public:
  /** @param bus NETLINK_ROUTE, NETLINK_SOCK_DIAG or NETLINK_NETFILTER */
  explicit Netlink(int bus);

  /** One request under construction. */
  class Request {
   public:
    Request(uint16_t type, uint16_t flags);
    nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(buffer_); }
    template <typename Body>
    Body* body() {
      return static_cast<Body*>(mnl_nlmsg_put_extra_header(header(), sizeof(Body)));
    }

   private:
    alignas(nlmsghdr) char buffer_[512] = {};
  };

  /** Sends and waits for the acknowledgement. @return 0 or the positive errno that the kernel answered */
  int acknowledge(Request& request, const char* syscall);

  using Visit = std::function<void(const nlmsghdr*)>;
  /** A dump, message by message. `restart` comes first, and again whenever a change in between made the dump inconsistent. */
  void dump(Request& request, const char* syscall, const std::function<void()>& restart, const Visit& visit);

 private:
  void open();
  int receive(uint32_t sequence, const char* syscall, const Visit& visit);

  struct Closer {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
  };
  int bus_;
  std::unique_ptr<mnl_socket, Closer> socket_;
  uint32_t sequence_ = 0;
};

/** The attributes behind a message's fixed part, or inside another attribute, as a range. */
class Attributes {
 public:
  Attributes(const nlmsghdr* header, size_t fixedPart)
      : begin_(static_cast<const char*>(mnl_nlmsg_get_payload_offset(header, fixedPart))),
        end_(static_cast<const char*>(mnl_nlmsg_get_payload_tail(header))) {}
  explicit Attributes(const nlattr* nest)
      : begin_(static_cast<const char*>(mnl_attr_get_payload(nest))), end_(begin_ + mnl_attr_get_payload_len(nest)) {}

  class Iterator {
   public:
    Iterator(const char* at, const char* end) : at_(at), end_(end) { stopIfBroken(); }
    const nlattr* operator*() const { return reinterpret_cast<const nlattr*>(at_); }
    Iterator& operator++() {
      at_ += MNL_ALIGN((**this)->nla_len);
      stopIfBroken();
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }

   private:
    void stopIfBroken() {
      if (!mnl_attr_ok(**this, static_cast<int>(end_ - at_))) at_ = end_;
    }
    const char* at_;
    const char* end_;
  };

  Iterator begin() const { return {begin_, end_}; }
  Iterator end() const { return {end_, end_}; }

 private:
  const char* begin_;
  const char* end_;
};

}  // namespace culvert
