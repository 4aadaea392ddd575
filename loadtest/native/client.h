/* What the clients of all measurements share: time, failing, writing a frame as a client sends it. */
#ifndef CLIENT_H
#define CLIENT_H
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char *program;

static long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

__attribute__((noreturn)) static void fail(const char *what) {
    fprintf(stderr, "%s: %s: %s\n", program, what, errno ? strerror(errno) : "");
    exit(1);
}

static void push(int fd, const void *data, size_t n) {
    const uint8_t *at = data;
    while (n) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent < 0) fail("send");
        at += sent, n -= (size_t)sent;
    }
}

/* Begin to connect; the socket can be written to when that is done. */
static int reach(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)) fail("connect");
    return fd;
}

/* Ask for a WebSocket on what has been connected, and block from here on. */
static void ask(int fd, const char *host, int port, const char *path) {
    char request[512];
    int one = 1, fault = 0, n = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, host, port);
    socklen_t size = sizeof fault;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size);
    if ((errno = fault) || fcntl(fd, F_SETFL, 0)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    push(fd, request, (size_t)n);
}

/* Connect and ask for a WebSocket. */
static inline int dial(const char *host, int port, const char *path) {
    int fd = reach(host, port);
    struct pollfd connected = {.fd = fd, .events = POLLOUT};
    if (poll(&connected, 1, -1) < 0) fail("connect");
    ask(fd, host, port, path);
    return fd;
}

/* Write a frame as a client sends it; return its size. */
static size_t build(uint8_t *to, int opcode, const char *text, size_t n) {
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    uint8_t *p = to;
    *p++ = (uint8_t)(0x80 | opcode);
    if (n < 126) *p++ = (uint8_t)(0x80 | n);
    else *p++ = 0x80 | 126, *p++ = (uint8_t)(n >> 8), *p++ = (uint8_t)n;
    memcpy(p, mask, 4), p += 4;
    for (size_t i = 0; i < n; i++) *p++ = (uint8_t)text[i] ^ mask[i & 3];
    return (size_t)(p - to);
}
#endif
