/* SPDX-License-Identifier: Apache-2.0 */
/*
 * many-fds PATH N      connects to a seqpacket socket and sends one packet "x" with N descriptors, then leaves
 * many-fds PATH leave  binds PATH and dies without removing it
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { MAX_FDS = 253 };

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control = { 0 };
	char byte = 'x';
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control };
	int s = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	if (argc != 3 || strlen(argv[1]) >= sizeof address.sun_path)
		return 2;
	strcpy(address.sun_path, argv[1]);
	if (!strcmp(argv[2], "leave"))
		return bind(s, (struct sockaddr *)&address, sizeof address) != 0;
	if (connect(s, (struct sockaddr *)&address, sizeof address))
		return 1;
	int n = atoi(argv[2]);
	if (n < 1 || n > MAX_FDS)
		return 2;
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(n * sizeof(int));
	message.msg_controllen = CMSG_SPACE(n * sizeof(int));
	for (int i = 0; i < n; i++)
		memset(CMSG_DATA(&control.header) + i * sizeof(int), 0, sizeof(int));
	return sendmsg(s, &message, 0) != 1;
}
