/* The floor: the least a WebSocket server can cost on this machine. One thread, epoll, RFC 6455 framing, one send() per
 * delivery, no limits and no checks. Every figure of a server is given as a multiple of this one.
 *
 *   floor PORT echo|fanout       fanout: every message goes to every connection, its sender included
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, MAX_FDS = 20000 };

struct peer {
    int fd, open, index;
    uint32_t used;
    uint8_t *data;
};

static struct peer *peers[MAX_FDS]; /* by file descriptor */
static struct peer *listed[MAX_FDS];
static int count, fanout;
static uint8_t scratch[BUFFER];

static uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const uint8_t *text, size_t n, uint8_t out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t block[128] = {0};
    size_t total = n + 9 <= 64 ? 64 : 128;
    memcpy(block, text, n);
    block[n] = 0x80;
    for (int i = 0; i < 4; i++) block[total - 1 - i] = (uint8_t)(n * 8 >> 8 * i);
    for (size_t at = 0; at < total; at += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[at + i * 4] << 24 | (uint32_t)block[at + i * 4 + 1] << 16
                 | (uint32_t)block[at + i * 4 + 2] << 8 | block[at + i * 4 + 3];
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
            else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
            else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
            else f = b ^ c ^ d, k = 0xCA62C1D6;
            uint32_t t = rol(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rol(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64_of_digest(const uint8_t in[20], char out[29]) {
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t padded[21] = {0};
    memcpy(padded, in, 20);
    for (int i = 0, o = 0; i < 21; i += 3) {
        uint32_t v = (uint32_t)padded[i] << 16 | (uint32_t)padded[i + 1] << 8 | padded[i + 2];
        out[o++] = set[v >> 18], out[o++] = set[v >> 12 & 63], out[o++] = set[v >> 6 & 63], out[o++] = set[v & 63];
    }
    out[27] = '=', out[28] = 0;
}

static void drop(struct peer *p) {
    close(p->fd);
    peers[p->fd] = NULL;
    listed[p->index] = listed[--count];
    listed[p->index]->index = p->index;
    free(p->data);
    free(p);
}

/* What the socket does not take at once is lost: the floor does not queue. The scenarios never let it come to that. */
static void push(struct peer *p, const uint8_t *frame, size_t n) {
    if (send(p->fd, frame, n, MSG_NOSIGNAL) != (ssize_t)n) fprintf(stderr, "floor: short send\n");
}

static int handshake(struct peer *p) {
    p->data[p->used] = 0;
    char *end = strstr((char *)p->data, "\r\n\r\n"), *key = strcasestr((char *)p->data, "sec-websocket-key:");
    if (!end || !key) return 0;
    char joined[128], accept[29], answer[256];
    uint8_t digest[20];
    key += 18;
    while (*key == ' ') key++;
    int n = snprintf(joined, sizeof joined, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", (int)strcspn(key, "\r "), key);
    sha1((uint8_t *)joined, (size_t)n, digest);
    base64_of_digest(digest, accept);
    n = snprintf(answer, sizeof answer,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    push(p, (uint8_t *)answer, (size_t)n);
    uint32_t head = (uint32_t)(end + 4 - (char *)p->data);
    memmove(p->data, p->data + head, p->used -= head);
    return p->open = 1;
}

/* Take the frames that are whole; 0 when the peer has said goodbye. */
static int frames(struct peer *p) {
    uint32_t at = 0;
    for (;;) {
        uint8_t *d = p->data + at;
        uint32_t have = p->used - at, head = 6, size;
        if (have < 6) break;
        size = d[1] & 127;
        if (size == 126) head = 8, size = (uint32_t)d[2] << 8 | d[3];
        else if (size == 127) return 0;
        if (have < head + size) break;
        const uint8_t *mask = d + head - 4;
        uint32_t out = size < 126 ? 2 : 4;
        scratch[0] = 0x80 | (d[0] & 15);
        if (out == 2) scratch[1] = (uint8_t)size;
        else scratch[1] = 126, scratch[2] = (uint8_t)(size >> 8), scratch[3] = (uint8_t)size;
        for (uint32_t i = 0; i < size; i++) scratch[out + i] = d[head + i] ^ mask[i & 3];
        at += head + size;
        if ((d[0] & 15) == 8) return 0;
        if (fanout) for (int i = 0; i < count; i++) push(listed[i], scratch, out + size);
        else push(p, scratch, out + size);
    }
    memmove(p->data, p->data + at, p->used -= at);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: floor PORT echo|fanout\n"), 2;
    fanout = !strcmp(argv[2], "fanout");
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return perror("floor"), 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (fd >= MAX_FDS) { close(fd); continue; }
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    struct peer *p = calloc(1, sizeof *p);
                    *p = (struct peer){.fd = fd, .index = count, .data = malloc(BUFFER + 1)};
                    listed[count++] = peers[fd] = p;
                    event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            struct peer *p = peers[fd];
            if (!p) continue;
            ssize_t got = recv(fd, p->data + p->used, BUFFER - p->used, 0);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN) drop(p);
                continue;
            }
            p->used += (uint32_t)got;
            if ((!p->open && !handshake(p)) || (p->open && !frames(p))) {
                if (p->open) drop(p);
            }
        }
    }
}
