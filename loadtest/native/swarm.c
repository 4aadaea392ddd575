/* The clients of a measurement: many WebSockets from one thread, so that a Python client is never what is measured.
 *
 *   swarm HOST PORT PATH CONNECTIONS SIZE
 *
 * Connects, prints "open MICROSECONDS", then obeys lines on stdin and answers each with "done MICROSECONDS":
 *   echo ROUNDS                every connection sends one message and waits for it, ROUNDS times; all at once
 *   fanout ROUNDS BATCH        the first connection sends BATCH messages in one write; a round ends when all have all
 *   hello JSON                 every connection sends this and waits until the session it attaches to is live
 *   say ROUNDS BATCH SESSION   as fanout, with the gateway's `send` frames
 * End of input ends it. SIZE is the text of one message in bytes, up to 60000.
 */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include "client.h"

/* What is known of one connection: a frame may come in pieces. */
struct peer {
    int fd;
    long due, rounds;   /* messages yet to come, echo rounds yet to do */
    uint64_t rest;      /* bytes of the present frame's payload yet to come */
    uint8_t head[10];
    uint32_t used, whole;
    int opcode;
    char start[125];    /* of the present frame's payload: all of it, if it is a ping */
    uint32_t seen;
};

static struct peer *peers;
static int total, poll_fd;
static size_t size, message_bytes;
static uint8_t *message, sink[256 * 1024];
static const char *wanted = ""; /* how the messages begin that are waited for */

static void open_all(const char *host, int port, const char *path) {
    /* 64 at a time: enough to keep the server busy, too few to overrun its backlog. */
    for (int at = 0; at < total; at += 64) {
        int upto = at + 64 < total ? at + 64 : total;
        for (int i = at; i < upto; i++) peers[i].fd = dial(host, port, path);
        for (int i = at; i < upto; i++) {
            char answer[4096];
            size_t used = 0;
            do {
                ssize_t got = recv(peers[i].fd, answer + used, sizeof answer - 1 - used, 0);
                if (got <= 0) fail("handshake");
                used += (size_t)got, answer[used] = 0;
            } while (!strstr(answer, "\r\n\r\n"));
            if (strncmp(answer, "HTTP/1.1 101", 12)) fail(answer);
            struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
            epoll_ctl(poll_fd, EPOLL_CTL_ADD, peers[i].fd, &event);
        }
    }
}

/* Count the messages that end in these bytes, and answer pings: who never does is soon taken for dead. */
static long count(struct peer *p, const uint8_t *data, size_t n) {
    long ended = 0;
    while (n || (p->used && p->used == p->whole && !p->rest)) {
        if (p->used < 2 || p->used < p->whole) {
            p->head[p->used++] = *data++, n--;
            if (p->used == 2) {
                p->opcode = p->head[0] & 15;
                p->seen = 0;
                p->rest = p->head[1];
                p->whole = p->rest == 126 ? 4 : p->rest == 127 ? 10 : 2;
            }
            if (p->used == p->whole && p->whole > 2) {
                p->rest = 0;
                for (uint32_t i = 2; i < p->whole; i++) p->rest = p->rest << 8 | p->head[i];
            }
            continue;
        }
        size_t step = n < p->rest ? n : (size_t)p->rest;
        for (size_t i = 0; i < step && p->seen < sizeof p->start; i++) p->start[p->seen++] = (char)data[i];
        data += step, n -= step, p->rest -= step;
        if (!p->rest) {
            size_t length = strlen(wanted);
            ended += p->opcode == 1 && p->seen >= length && !memcmp(p->start, wanted, length);
            if (p->opcode == 9) {
                uint8_t pong[140];
                push(p->fd, pong, build(pong, 0xA, p->start, p->seen));
            }
            p->used = p->whole = 0;
        }
    }
    return ended;
}

/* Read until no message is due; `again` sends the next one of an echo. */
static void collect(long pending, int again) {
    struct epoll_event ready[256];
    while (pending > 0) {
        int n = epoll_wait(poll_fd, ready, 256, 20000);
        if (n <= 0) fail("nothing arrives any more");
        for (int e = 0; e < n; e++) {
            struct peer *p = &peers[ready[e].data.u32];
            ssize_t got = recv(p->fd, sink, sizeof sink, 0);
            if (got <= 0) fail("recv");
            long ended = count(p, sink, (size_t)got);
            pending -= ended, p->due -= ended;
            if (again && ended && p->due == 0 && --p->rounds > 0) {
                p->due = 1;
                push(p->fd, message, message_bytes);
            }
        }
    }
}

static void echo(long rounds) {
    for (int i = 0; i < total; i++) peers[i].rounds = rounds, peers[i].due = 1;
    for (int i = 0; i < total; i++) push(peers[i].fd, message, message_bytes);
    collect(rounds * total, 1);
}

static void rounds_of(long rounds, long batch, const uint8_t *burst, size_t bytes) {
    for (long r = 0; r < rounds; r++) {
        for (int i = 0; i < total; i++) peers[i].due = batch;
        push(peers[0].fd, burst, bytes);
        collect(batch * total, 0);
    }
}

static void fanout(long rounds, long batch) {
    uint8_t *burst = malloc(message_bytes * (size_t)batch);
    for (long b = 0; b < batch; b++) memcpy(burst + (size_t)b * message_bytes, message, message_bytes);
    rounds_of(rounds, batch, burst, message_bytes * (size_t)batch);
    free(burst);
}

static void hello(const char *json) {
    size_t n = strlen(json);
    uint8_t *frame = malloc(n + 14);
    size_t bytes = build(frame, 1, json, n);
    wanted = "{\"type\":\"live\"";
    /* 64 at a time: what all of them at once would need for a moment is not what an idle connection costs. */
    for (int at = 0; at < total; at += 64) {
        int upto = at + 64 < total ? at + 64 : total;
        for (int i = at; i < upto; i++) peers[i].due = 1, push(peers[i].fd, frame, bytes);
        collect(upto - at, 0);
    }
    free(frame);
}

static void say(long rounds, long batch, const char *session) {
    static unsigned long long id;
    char *json = malloc(size + 256), *text = malloc(size + 1);
    uint8_t *burst = malloc((size + 300) * (size_t)batch);
    for (size_t i = 0; i < size; i++) text[i] = (char)('a' + i % 26);
    text[size] = 0;
    wanted = "{\"type\":\"message";
    for (long r = 0; r < rounds; r++) {
        size_t bytes = 0;
        for (long b = 0; b < batch; b++) {
            int n = sprintf(json, "{\"type\":\"send\",\"id\":\"%llu\",\"session\":\"%s\",\"content\":\"%s\"}", ++id,
                            session, text);
            bytes += build(burst + bytes, 1, json, (size_t)n);
        }
        rounds_of(1, batch, burst, bytes);
    }
    free(json), free(text), free(burst);
}

int main(int argc, char **argv) {
    program = "swarm";
    if (argc != 6) return fprintf(stderr, "usage: swarm HOST PORT PATH CONNECTIONS SIZE\n"), 2;
    total = atoi(argv[4]), size = (size_t)atol(argv[5]);
    if (total < 1 || size < 1 || size > 60000) return fprintf(stderr, "swarm: out of range\n"), 2;
    peers = calloc((size_t)total, sizeof *peers);
    poll_fd = epoll_create1(0);
    char *text = malloc(size);
    for (size_t i = 0; i < size; i++) text[i] = (char)('a' + i % 26);
    message = malloc(size + 14);
    message_bytes = build(message, 1, text, size);
    free(text);
    long long start = now_us();
    open_all(argv[1], atoi(argv[2]), argv[3]);
    printf("open %lld\n", now_us() - start), fflush(stdout);
    static char line[16384], session[128];
    while (fgets(line, sizeof line, stdin)) {
        long rounds = 0, batch = 0;
        line[strcspn(line, "\n")] = 0;
        start = now_us();
        if (sscanf(line, "echo %ld", &rounds) == 1) echo(rounds);
        else if (sscanf(line, "fanout %ld %ld", &rounds, &batch) == 2) fanout(rounds, batch);
        else if (!strncmp(line, "hello ", 6)) hello(line + 6);
        else if (sscanf(line, "say %ld %ld %100s", &rounds, &batch, session) == 3) say(rounds, batch, session);
        else fail("unknown line");
        printf("done %lld\n", now_us() - start), fflush(stdout);
    }
    return 0;
}
