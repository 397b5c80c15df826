// SPDX-License-Identifier: Apache-2.0
/*
 * System calls on sockets, one per line of stdin, for tests that need what Node does not offer: MPTCP, SO_BINDTODEVICE, marks,
 * connected UDP, v4-mapped destinations. Answers "errno" or "0 value...". Nothing waits longer than the milliseconds given.
 *
 *   socket 4|6 tcp|udp|mptcp|raw    -> fd          set FD LEVEL NAME INT
 *   get FD LEVEL NAME               -> int         device FD NAME
 *   bind FD ADDR PORT                              connect FD ADDR PORT MS
 *   start FD ADDR PORT (connect, not awaited)      finish FD MS (waits for it)
 *   disconnect FD (AF_UNSPEC)                      md5 FD ADDR LENGTH (of its key; 0 takes it off)
 *   fastopen FD ADDR PORT TEXT (MSG_FASTOPEN)      syn FD FROM PORT TO PORT (IPv4, on a raw socket)
 *   listen FD                                      accept FD MS              -> fd addr port
 *   name FD -> addr port                           peer FD                   -> addr port
 *   send FD TEXT                                   recv FD MS                -> text
 *   sendto FD ADDR PORT TEXT                       recvfrom FD MS            -> addr port text
 *   uring FD ADDR PORT plain|worker|poller MS (connect by io_uring: in this task, one of its workers, or its polling thread)
 *   door PATH -> fd                                take DOOR MS              -> fd (by SCM_RIGHTS)
 *   give FD PATH (to who has a door there)
 *   cookie (of the network namespace)              close FD
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define SO_NETNS_COOKIE_ 71
#define IPPROTO_MPTCP_ 262
#define WORDS 6

static int failed(void)
{
	printf("%d\n", errno);
	return 0;
}

static int done(int result)
{
	if (result < 0)
		return failed();
	printf("0\n");
	return 0;
}

static socklen_t end_of(const char *text, const char *port, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (void *)out;
	struct sockaddr_in6 *v6 = (void *)out;

	memset(out, 0, sizeof(*out));
	if (strchr(text, ':')) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(atoi(port));
		inet_pton(AF_INET6, text, &v6->sin6_addr);
		return sizeof(*v6);
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons(atoi(port));
	inet_pton(AF_INET, text, &v4->sin_addr);
	return sizeof(*v4);
}

static const char *text_of(const struct sockaddr_storage *end)
{
	static char out[80];
	char ip[64];
	const struct sockaddr_in *v4 = (const void *)end;
	const struct sockaddr_in6 *v6 = (const void *)end;

	if (end->ss_family == AF_INET6)
		snprintf(out, sizeof(out), "%s %d", inet_ntop(AF_INET6, &v6->sin6_addr, ip, sizeof(ip)), ntohs(v6->sin6_port));
	else
		snprintf(out, sizeof(out), "%s %d", inet_ntop(AF_INET, &v4->sin_addr, ip, sizeof(ip)), ntohs(v4->sin_port));
	return out;
}

static int wait_for(int fd, short what, const char *ms)
{
	struct pollfd p = { .fd = fd, .events = what };
	int ready = poll(&p, 1, atoi(ms));

	if (ready == 0)
		errno = ETIMEDOUT;
	return ready > 0 ? 0 : -1;
}

static int start(int fd, const char *ip, const char *port)
{
	struct sockaddr_storage to;
	socklen_t length = end_of(ip, port, &to);

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return connect(fd, (void *)&to, length) == 0 || errno == EINPROGRESS ? 0 : -1;
}

static int finish(int fd, const char *ms)
{
	socklen_t size = sizeof(int);
	int error = 0;

	if (wait_for(fd, POLLOUT, ms) < 0)
		return -1;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	errno = error;
	return error ? -1 : 0;
}

static int do_connect(int fd, const char *ip, const char *port, const char *ms)
{
	return start(fd, ip, port) < 0 ? -1 : finish(fd, ms);
}

static int set_md5(int fd, const char *ip, int key_length)
{
	struct tcp_md5sig md5 = { .tcpm_keylen = key_length };

	end_of(ip, "0", (void *)&md5.tcpm_addr);
	memset(md5.tcpm_key, 'k', key_length);
	return setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof(md5));
}

static unsigned int sum(const void *data, int length, unsigned int so_far)
{
	const unsigned short *words = data;

	for (; length > 0; length -= 2)
		so_far += *words++;
	return so_far;
}

/* A SYN past the kernel's own TCP; the kernel writes the IP header. */
static int send_syn(int fd, char **w)
{
	struct sockaddr_storage from, to;
	struct tcphdr tcp = { .source = htons(atoi(w[3])), .dest = htons(atoi(w[5])), .doff = 5, .syn = 1, .window = htons(64000) };
	struct {
		struct in_addr from, to;
		unsigned short protocol, length;
	} pseudo = { .protocol = htons(IPPROTO_TCP), .length = htons(sizeof(tcp)) };
	unsigned int check;

	end_of(w[2], "0", &from);
	end_of(w[4], "0", &to);
	pseudo.from = ((struct sockaddr_in *)&from)->sin_addr;
	pseudo.to = ((struct sockaddr_in *)&to)->sin_addr;
	check = sum(&tcp, sizeof(tcp), sum(&pseudo, sizeof(pseudo), 0));
	check = (check >> 16) + (check & 0xffff);
	tcp.check = ~(check + (check >> 16));
	return sendto(fd, &tcp, sizeof(tcp), 0, (void *)&to, sizeof(struct sockaddr_in));
}

/* Rings of one entry, gone with the call. Returns as connect(2), or ETIMEDOUT. */
static int uring_connect(int fd, const struct sockaddr_storage *to, socklen_t length, const char *by, const char *ms)
{
	int poller = !strcmp(by, "poller"), result = -1;
	struct io_uring_params p = { .flags = poller ? IORING_SETUP_SQPOLL : 0 };
	int ring = syscall(SYS_io_uring_setup, 1, &p);
	unsigned char *sq, *cq;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;

	if (ring < 0)
		return -1;
	sq = mmap(NULL, p.sq_off.array + sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + 2 * sizeof(*cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
		goto out;
	sqe->opcode = IORING_OP_CONNECT;
	sqe->flags = strcmp(by, "worker") ? 0 : IOSQE_ASYNC;
	sqe->fd = fd;
	sqe->addr = (unsigned long)to;
	sqe->off = length;
	__atomic_store_n((int *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 0, poller ? IORING_ENTER_SQ_WAKEUP : 0, NULL, 0) < 0 || wait_for(ring, POLLIN, ms) < 0)
		goto out;
	cqe = (void *)(cq + p.cq_off.cqes);
	errno = cqe->res < 0 ? -cqe->res : 0;
	result = cqe->res < 0 ? -1 : 0;
out:
	fd = errno;
	munmap(sq, p.sq_off.array + sizeof(int));
	munmap(cq, p.cq_off.cqes + 2 * sizeof(*cqe));
	munmap(sqe, sizeof(*sqe));
	close(ring);
	errno = fd;
	return result;
}

static int unix_socket(const char *path, struct sockaddr_un *at)
{
	memset(at, 0, sizeof(*at));
	at->sun_family = AF_UNIX;
	strncpy(at->sun_path, path, sizeof(at->sun_path) - 1);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int door(const char *path)
{
	struct sockaddr_un at;
	int fd = unix_socket(path, &at);

	return fd < 0 || bind(fd, (void *)&at, sizeof(at)) < 0 || listen(fd, 1) < 0 ? -1 : fd;
}

static int give(int fd, const char *path)
{
	char one = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec data = { &one, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	struct sockaddr_un at;
	int to = unix_socket(path, &at), sent = -1;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (connect(to, (void *)&at, sizeof(at)) == 0)
		sent = sendmsg(to, &message, MSG_NOSIGNAL);
	fd = errno;
	close(to);
	errno = fd;
	return sent;
}

static int take(int at, const char *ms)
{
	char one, control[CMSG_SPACE(sizeof(int))];
	struct iovec data = { &one, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int from, fd = -1;

	if (wait_for(at, POLLIN, ms) < 0 || (from = accept(at, NULL, NULL)) < 0)
		return -1;
	if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	close(from);
	return fd;
}

static int run(char **w, int n)
{
	struct sockaddr_storage end;
	socklen_t length = sizeof(end);
	int fd = n > 1 ? atoi(w[1]) : -1, value = 0;
	char data[512];
	ssize_t got;

	if (!strcmp(w[0], "socket")) {
		int raw = !strcmp(w[2], "raw"), type = raw ? SOCK_RAW : !strcmp(w[2], "udp") ? SOCK_DGRAM : SOCK_STREAM;
		int protocol = raw ? IPPROTO_TCP : !strcmp(w[2], "mptcp") ? IPPROTO_MPTCP_ : 0;

		fd = socket(*w[1] == '6' ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, protocol);
		return fd < 0 ? failed() : printf("0 %d\n", fd);
	}
	if (!strcmp(w[0], "cookie")) {
		unsigned long long cookie = 0;

		fd = socket(AF_INET, SOCK_DGRAM, 0);
		length = sizeof(cookie);
		value = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE_, &cookie, &length);
		close(fd);
		return value < 0 ? failed() : printf("0 %llu\n", cookie);
	}
	if (!strcmp(w[0], "set")) {
		value = strtoul(w[4], NULL, 0);
		return done(setsockopt(fd, atoi(w[2]), atoi(w[3]), &value, sizeof(value)));
	}
	if (!strcmp(w[0], "get")) {
		length = sizeof(value);
		if (getsockopt(fd, atoi(w[2]), atoi(w[3]), &value, &length) < 0)
			return failed();
		return printf("0 %u\n", value);
	}
	if (!strcmp(w[0], "device"))
		return done(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, w[2], strlen(w[2])));
	if (!strcmp(w[0], "bind")) {
		length = end_of(w[2], w[3], &end);
		return done(bind(fd, (void *)&end, length));
	}
	if (!strcmp(w[0], "connect"))
		return done(do_connect(fd, w[2], w[3], w[4]));
	if (!strcmp(w[0], "start"))
		return done(start(fd, w[2], w[3]));
	if (!strcmp(w[0], "finish"))
		return done(finish(fd, w[2]));
	if (!strcmp(w[0], "disconnect"))
		return done(connect(fd, &(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr)));
	if (!strcmp(w[0], "md5"))
		return done(set_md5(fd, w[2], atoi(w[3])));
	if (!strcmp(w[0], "fastopen")) {
		length = end_of(w[2], w[3], &end);
		return done(sendto(fd, w[4], strlen(w[4]), MSG_NOSIGNAL | MSG_FASTOPEN, (void *)&end, length));
	}
	if (!strcmp(w[0], "syn"))
		return done(send_syn(fd, w));
	if (!strcmp(w[0], "uring")) {
		length = end_of(w[2], w[3], &end);
		return done(uring_connect(fd, &end, length, w[4], w[5]));
	}
	if (!strcmp(w[0], "door") || !strcmp(w[0], "take")) {
		fd = *w[0] == 'd' ? door(w[1]) : take(fd, w[2]);
		return fd < 0 ? failed() : printf("0 %d\n", fd);
	}
	if (!strcmp(w[0], "give"))
		return done(give(fd, w[2]));
	if (!strcmp(w[0], "listen"))
		return done(listen(fd, 128));
	if (!strcmp(w[0], "accept")) {
		if (wait_for(fd, POLLIN, w[2]) < 0 || (fd = accept4(fd, (void *)&end, &length, SOCK_CLOEXEC)) < 0)
			return failed();
		return printf("0 %d %s\n", fd, text_of(&end));
	}
	if (!strcmp(w[0], "name") || !strcmp(w[0], "peer")) {
		if ((*w[0] == 'n' ? getsockname(fd, (void *)&end, &length) : getpeername(fd, (void *)&end, &length)) < 0)
			return failed();
		return printf("0 %s\n", text_of(&end));
	}
	if (!strcmp(w[0], "send"))
		return done(send(fd, w[2], strlen(w[2]), MSG_NOSIGNAL));
	if (!strcmp(w[0], "sendto")) {
		length = end_of(w[2], w[3], &end);
		return done(sendto(fd, w[4], strlen(w[4]), MSG_NOSIGNAL, (void *)&end, length));
	}
	if (!strcmp(w[0], "recv") || !strcmp(w[0], "recvfrom")) {
		memset(&end, 0, sizeof(end));
		if (wait_for(fd, POLLIN, w[2]) < 0 || (got = recvfrom(fd, data, sizeof(data) - 1, 0, (void *)&end, &length)) < 0)
			return failed();
		data[got] = 0;
		return w[0][4] ? printf("0 %s %s\n", text_of(&end), data) : printf("0 %s\n", data);
	}
	if (!strcmp(w[0], "close"))
		return done(close(fd));
	errno = ENOSYS;
	return failed();
}

int main(void)
{
	static char line[1024];
	char *words[WORDS];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		int n = 0;

		for (char *w = strtok(line, " \n"); w && n < WORDS; w = strtok(NULL, " \n"))
			words[n++] = w;
		if (n)
			run(words, n);
	}
	return 0;
}
