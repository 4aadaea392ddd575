/* Clients of one or more gateways on this machine, each in one session, from one thread and on one clock.
 *
 *   talkers SIZE                        bytes of a message's content, 40 to 60000
 *
 * Obeys lines on stdin. The first is not answered, each of the others with a line of JSON when it is done:
 *   client PORT SESSION TOKEN           one more client, which is not connected yet
 *   connect PARALLEL [PORT …]           all that are away come (back), so many at a time: where they were, or to these
 *                                       ports in turn; with their resume token and cursor, if they have them
 *   window N SECONDS                    each keeps N sends on their way
 *   rate PER_S SECONDS                  one or the other of those connected sends, so many a second in all, at random
 *   cut PORT                            the sockets of all who are connected to this port are reset
 *   survive N PORT …                    so many lose their connection from now on, and come to these ports in turn, as the
 *                                       protocol says: within 250 ms, then when they are told to, and 250 ms at most after it
 * After `connect`, `window`, `rate` and `survive` it is waited until everybody has every message that is acked. End of input
 * ends it. Times are µs: of a send to its ack; of a send to its delivery at a client of the same port, of another
 * port; of a connect, or of a loss that is survived, to `live`. Each is told as [count, p50, p99, most].
 */
#define _GNU_SOURCE
#include <math.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include "client.h"

enum { PATIENCE_MS = 20000, ORDERS = UINT32_MAX, TIMER = UINT32_MAX - 1 };

struct room {
    char id[40];
    long long head; /* the highest seq that was acked or seen */
};

struct talker {
    int fd, port, room, asked;
    enum { AWAY, DIALLED, GREETING, LIVE } state;
    char *token, resume[128];
    long long seq, begun; /* the last message it has; when it began to come */
    long long due, told;  /* when it comes again, where it is to survive; when it was told to */
    long pending;         /* its sends on their way */
    char *rest;           /* the begin of a frame whose end is to come */
    size_t rest_bytes;
};

struct samples {
    uint32_t *us;
    size_t count, space;
};

static struct talker *talkers;
static struct room *rooms;
static size_t total, rooms_total, size;
static int poll_fd, timer_fd;
static long window;                  /* what each sends anew when an ack comes; 0: nothing */
static unsigned long long numbers;   /* of sends, so that no id comes twice */
static long pending, sent, acked, errors, gaps, resumed, fresh, gone, refused, put_off;
static struct samples acks, same, other, ways;
static int survives;                 /* whether who loses its connection comes back by itself */
static long long first_due;          /* when the next of those comes */
static char *filler, *sink, orders[1 << 20];
static size_t orders_bytes;
static uint8_t *out;                 /* what one talker is about to say */
static size_t out_bytes;
static const size_t SINK = 1 << 20;

/* -- figures */

static void note(struct samples *to, long long us) {
    if (to->count == to->space) {
        to->space = to->space ? to->space * 2 : 1 << 16;
        to->us = realloc(to->us, to->space * sizeof *to->us);
    }
    to->us[to->count++] = us < 0 ? 0 : (uint32_t)us;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void tell(const char *name, struct samples *of) {
    size_t n = of->count;
    if (n) qsort(of->us, n, sizeof *of->us, by_size);
    printf(",\"%s\":[%zu,%u,%u,%u]", name, n, n ? of->us[n / 2] : 0, n ? of->us[n * 99 / 100] : 0, n ? of->us[n - 1] : 0);
    of->count = 0;
}

static void report(long long us) {
    printf("{\"us\":%lld,\"sent\":%ld,\"acked\":%ld,\"errors\":%ld,\"gaps\":%ld,\"resumed\":%ld,\"fresh\":%ld,\"gone\":%ld,"
           "\"refused\":%ld,\"put_off\":%ld",
           us, sent, acked, errors, gaps, resumed, fresh, gone, refused, put_off);
    tell("ack", &acks), tell("same", &same), tell("other", &other), tell("way", &ways);
    puts("}"), fflush(stdout);
    sent = acked = errors = gaps = resumed = fresh = gone = refused = put_off = 0;
}

/* -- what they say */

static void say(struct talker *t, int opcode, const char *text, size_t n) {
    out_bytes += build(out + out_bytes, opcode, text, n);
    if (out_bytes > SINK) push(t->fd, out, out_bytes), out_bytes = 0;
}

static void flush(struct talker *t) {
    if (out_bytes) push(t->fd, out, out_bytes);
    out_bytes = 0;
}

/* The time of a send is in its id and in its content, and so is who sent it. */
static void send_one(struct talker *t) {
    static char *json;
    if (!json) json = malloc(size + 512);
    long long now = now_us();
    char stamp[40];
    int width = snprintf(stamp, sizeof stamp, "%llx %zx ", now, (size_t)(t - talkers));
    int n = sprintf(json, "{\"type\":\"send\",\"id\":\"%llx-%llx\",\"session\":\"%s\",\"content\":\"%s%s\"}", now, ++numbers,
                    rooms[t->room].id, stamp, filler + width);
    say(t, 1, json, (size_t)n);
    t->pending++, pending++, sent++;
}

static void greet(struct talker *t) {
    char json[4096], resume[160] = "", since[40] = "";
    if (*t->resume) sprintf(resume, "\"resume\":\"%s\",", t->resume), sprintf(since, ",\"since\":%lld", t->seq);
    int n = snprintf(json, sizeof json, "{\"type\":\"hello\",\"token\":\"%s\",%s\"attach\":[{\"session\":\"%s\"%s}]}", t->token,
                     resume, rooms[t->room].id, since);
    say(t, 1, json, (size_t)n);
    t->state = GREETING;
}

static void come(struct talker *t, int port) {
    t->begun = now_us(), t->port = port, t->state = DIALLED, t->pending = 0;
    /* A server that cannot keep up lets them wait, and nobody else. */
    t->fd = reach("127.0.0.1", port), t->asked = 0;
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)(t - talkers)};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, t->fd, &event);
}

/* Be away, until so many µs have passed and a little more. */
static void leave(struct talker *t, long long us) {
    close(t->fd);
    if (t->state == LIVE) t->begun = now_us(), gone++;
    t->state = AWAY, t->rest_bytes = 0, t->told = 0;
    t->due = now_us() + us + (long long)(drand48() * 250000);
    if (t->due < first_due) first_due = t->due;
}

/* -- what they hear */

static const char *find(const char *in, size_t n, const char *what) {
    size_t length = strlen(what);
    const char *at = memmem(in, n, what, length);
    return at ? at + length : NULL;
}

static long long number(const char *in, size_t n, const char *what) {
    const char *at = find(in, n, what);
    if (!at) fail("a frame lacks what every one of its kind has");
    return strtoll(at, NULL, 10);
}

static void complain(const char *data, size_t n) {
    if (!errors++) fprintf(stderr, "%s: the first error: %.*s\n", program, (int)n, data);
}

static void on_ack(struct talker *t, const char *data, size_t n, long long now) {
    const char *id = find(data, n, "\"id\":\"");
    long long seq = number(data, n, "\"seq\":");
    struct room *room = &rooms[t->room];
    if (seq > room->head) room->head = seq;
    if (id) note(&acks, now - (long long)strtoull(id, NULL, 16));
    acked++, t->pending--, pending--;
    if (window) send_one(t);
}

static void on_message(struct talker *t, const char *data, size_t n, long long now) {
    long long seq = number(data, n, "\"seq\":");
    const char *content = find(data, n, "\"content\":\"");
    struct room *room = &rooms[t->room];
    gaps += seq != t->seq + 1;
    t->seq = seq;
    if (seq > room->head) room->head = seq;
    if (!content) return;
    char *end;
    long long at = (long long)strtoull(content, &end, 16);
    size_t sender = strtoull(end, NULL, 16);
    /* Who has just come reads what was sent while it was away. */
    if (sender < total && t->state == LIVE) note(talkers[sender].port == t->port ? &same : &other, now - at);
}

static void on_frame(struct talker *t, int opcode, const char *data, size_t n, long long now) {
    if (opcode == 9) say(t, 0xA, data, n);
    if (opcode == 8 && survives && t->told) {
        leave(t, t->told), put_off++;
        return;
    }
    if (opcode == 8) complain(data, n), errno = 0, fail("a gateway has closed a connection");
    if (opcode != 1) return;
    const char *type = find(data, n < 64 ? n : 64, "{\"type\":\"");
    if (!type) return;
    if (!strncmp(type, "ack\"", 4)) on_ack(t, data, n, now);
    else if (!strncmp(type, "message\"", 8)) on_message(t, data, n, now);
    else if (!strncmp(type, "error\"", 6) && survives && t->state == GREETING && find(data, n, "\"retry_after_ms\":"))
        t->told = number(data, n, "\"retry_after_ms\":") * 1000;
    else if (!strncmp(type, "error\"", 6)) complain(data, n);
    else if (!strncmp(type, "welcome\"", 8)) {
        const char *resume = find(data, n, "\"resume\":\"");
        if (find(data, n, "\"resumed\":true")) resumed++;
        else fresh++;
        if (resume) snprintf(t->resume, sizeof t->resume, "%.*s", (int)strcspn(resume, "\""), resume);
    } else if (!strncmp(type, "attached\"", 9)) {
        t->seq = number(data, n, "\"since\":");
        long long head = number(data, n, "\"head\":");
        if (head > rooms[t->room].head) rooms[t->room].head = head;
    } else if (!strncmp(type, "live\"", 5) && t->state == GREETING) {
        t->state = LIVE;
        note(&ways, now - t->begun);
    }
}

/* Take whole frames from these bytes; return how many were used. */
static size_t take(struct talker *t, char *data, size_t n, long long now) {
    size_t used = 0;
    if (t->state == DIALLED) {
        char *end = memmem(data, n, "\r\n\r\n", 4);
        if (!end) return 0;
        if (survives && !strncmp(data, "HTTP/1.1 503", 12)) {
            leave(t, number(data, n, "retry-after: ") * 1000000), refused++;
            return 0;
        }
        if (strncmp(data, "HTTP/1.1 101", 12)) fprintf(stderr, "%.*s\n", (int)(end - data), data), fail("refused");
        used = (size_t)(end - data) + 4;
        greet(t);
    }
    while (n - used >= 2) {
        const uint8_t *head = (uint8_t *)data + used;
        size_t length = head[1] & 127, whole = length == 126 ? 4 : length == 127 ? 10 : 2;
        if (n - used < whole) break;
        if (whole > 2) {
            length = 0;
            for (size_t i = 2; i < whole; i++) length = length << 8 | head[i];
        }
        if (n - used - whole < length) break;
        on_frame(t, head[0] & 15, data + used + whole, length, now);
        if (t->state == AWAY) return 0;
        used += whole + length;
    }
    return used;
}

static void hear(struct talker *t) {
    if (!t->asked) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(t - talkers)};
        ask(t->fd, "127.0.0.1", t->port, "/ws");
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, t->fd, &event);
        t->asked = 1;
        return;
    }
    size_t n = t->rest_bytes;
    memcpy(sink, t->rest, n);
    ssize_t got = recv(t->fd, sink + n, SINK - n, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 && survives) {
        if (t->state != LIVE) fail("a gateway has dropped who was about to come");
        leave(t, 0);
        return;
    }
    if (got <= 0) fail("a gateway has dropped a connection");
    n += (size_t)got;
    size_t used = take(t, sink, n, now_us());
    if (t->state == AWAY) {
        out_bytes = 0;
        return;
    }
    flush(t);
    t->rest_bytes = n - used;
    if (t->rest_bytes) {
        t->rest = realloc(t->rest, t->rest_bytes);
        memcpy(t->rest, sink + used, t->rest_bytes);
    }
}

/* Take what has come; false when nothing did for so long. */
static int pump(int ms) {
    struct epoll_event ready[256];
    int n = epoll_wait(poll_fd, ready, 256, ms);
    if (n < 0 && errno != EINTR) fail("epoll_wait");
    for (int e = 0; e < n; e++) {
        uint64_t times;
        if (ready[e].data.u32 == ORDERS) {
            ssize_t got = read(0, orders + orders_bytes, sizeof orders - 1 - orders_bytes);
            if (got <= 0) exit(0);
            orders_bytes += (size_t)got;
        } else if (ready[e].data.u32 == TIMER) {
            if (read(timer_fd, &times, sizeof times) < 0 && errno != EAGAIN) fail("timer");
        } else hear(&talkers[ready[e].data.u32]);
    }
    return n > 0;
}

static void wake_at(long long us) {
    struct itimerspec when = {.it_value = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Wait until everything is acked and everybody has everything. */
static void settle(void) {
    size_t at = 0;
    while (pending > 0 || at < total) {
        while (pending <= 0 && at < total && (talkers[at].state != LIVE || talkers[at].seq >= rooms[talkers[at].room].head))
            at++;
        if ((pending > 0 || at < total) && !pump(PATIENCE_MS)) errno = 0, fail("acks or messages are missing for 20 s");
    }
}

/* -- orders */

static void add(int port, const char *session, const char *token) {
    talkers = realloc(talkers, (total + 1) * sizeof *talkers);
    struct talker *t = &talkers[total++];
    *t = (struct talker){.port = port, .token = strdup(token)};
    size_t r = 0;
    while (r < rooms_total && strcmp(rooms[r].id, session)) r++;
    if (r == rooms_total) {
        rooms = realloc(rooms, ++rooms_total * sizeof *rooms);
        rooms[r] = (struct room){.head = 0};
        snprintf(rooms[r].id, sizeof rooms[r].id, "%s", session);
    }
    t->room = (int)r;
}

static long long connect_all(long parallel, const int *ports, size_t count) {
    long long start = now_us();
    size_t next = 0, turn = 0, done = ways.count, under_way = 0;
    for (;;) {
        under_way -= ways.count - done, done = ways.count;
        for (; next < total && under_way < (size_t)parallel; next++)
            if (talkers[next].state == AWAY) come(&talkers[next], count ? ports[turn++ % count] : talkers[next].port), under_way++;
        if (!under_way) break;
        if (!pump(PATIENCE_MS)) errno = 0, fail("clients are not let in");
    }
    long long took = now_us() - start;
    settle();
    return took;
}

static long long keep(long n, double seconds) {
    long long start = now_us(), end = start + (long long)(seconds * 1e6);
    window = n;
    wake_at(end);
    for (size_t i = 0; i < total; i++)
        if (talkers[i].state == LIVE) {
            for (long k = 0; k < n; k++) send_one(&talkers[i]);
            flush(&talkers[i]);
        }
    while (now_us() < end)
        if (!pump(PATIENCE_MS)) errno = 0, fail("nothing arrives any more");
    long long took = now_us() - start;
    window = 0;
    /* What comes now no longer counts. */
    long counted = acked;
    size_t kept[] = {acks.count, same.count, other.count};
    settle();
    acked = counted, acks.count = kept[0], same.count = kept[1], other.count = kept[2];
    return took;
}

static long long spread(double per_s, double seconds) {
    long long start = now_us();
    double due = (double)start, end = due + seconds * 1e6;
    for (;;) {
        due += -log(1 - drand48()) / per_s * 1e6;
        if (due >= end) break;
        wake_at((long long)due);
        while ((double)now_us() < due) pump(PATIENCE_MS);
        struct talker *t = &talkers[(size_t)(drand48() * (double)total)];
        for (size_t i = 0; i < total && t->state != LIVE; i++) t = t + 1 < talkers + total ? t + 1 : talkers;
        if (t->state != LIVE) errno = 0, fail("nobody is connected");
        send_one(t), flush(t);
    }
    long long took = now_us() - start;
    settle();
    return took;
}

static long long survive(long losses, const int *ports, size_t count) {
    long long start = 0;
    size_t turn = 0, before = ways.count;
    survives = 1, first_due = INT64_MAX;
    while (gone < losses || ways.count - before < (size_t)losses) {
        if (first_due < INT64_MAX) wake_at(first_due);
        if (!pump(PATIENCE_MS)) errno = 0, fail(gone < losses ? "nobody is lost" : "clients are not let in");
        if (!start && gone) start = now_us();
        if (now_us() < first_due) continue;
        first_due = INT64_MAX;
        for (size_t i = 0; i < total; i++) {
            struct talker *t = &talkers[i];
            if (t->state != AWAY) continue;
            if (t->due <= now_us()) {
                long long begun = t->begun;
                come(t, ports[turn++ % count]);
                t->begun = begun;
            } else if (t->due < first_due) first_due = t->due;
        }
    }
    survives = 0;
    long long took = now_us() - start;
    settle();
    return took;
}

static long long cut(int port) {
    long long start = now_us();
    struct linger reset = {.l_onoff = 1};
    for (size_t i = 0; i < total; i++) {
        struct talker *t = &talkers[i];
        if (t->state != LIVE || t->port != port) continue;
        setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(t->fd);
        t->state = AWAY, t->rest_bytes = 0, gone++;
    }
    return now_us() - start;
}

static void obey(char *line) {
    long n = 0;
    double seconds = 0, per_s = 0;
    int port = 0, used = 0, ports[64];
    size_t count = 0;
    static char session[40], token[4000];
    if (sscanf(line, "client %d %39s %3999s", &port, session, token) == 3) {
        add(port, session, token);
        return;
    }
    if (sscanf(line, "connect %ld%n", &n, &used) == 1) {
        for (int step; count < 64 && sscanf(line + used, "%d%n", &ports[count], &step) == 1; used += step) count++;
        report(connect_all(n, ports, count));
    } else if (sscanf(line, "survive %ld%n", &n, &used) == 1) {
        for (int step; count < 64 && sscanf(line + used, "%d%n", &ports[count], &step) == 1; used += step) count++;
        if (!count) errno = 0, fail("survive where?");
        report(survive(n, ports, count));
    } else if (sscanf(line, "window %ld %lf", &n, &seconds) == 2) report(keep(n, seconds));
    else if (sscanf(line, "rate %lf %lf", &per_s, &seconds) == 2) report(spread(per_s, seconds));
    else if (sscanf(line, "cut %d", &port) == 1) report(cut(port));
    else fail(line);
}

int main(int argc, char **argv) {
    program = "talkers";
    size = argc == 2 ? (size_t)atol(argv[1]) : 0;
    if (size < 40 || size > 60000) return fprintf(stderr, "usage: talkers SIZE, of 40 to 60000\n"), 2;
    filler = malloc(size + 1), sink = malloc(SINK), out = malloc(SINK + size + 4096);
    for (size_t i = 0; i < size; i++) filler[i] = (char)('a' + i % 26);
    filler[size] = 0;
    poll_fd = epoll_create1(0), timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event reads = {.events = EPOLLIN, .data.u32 = ORDERS}, ticks = {.events = EPOLLIN, .data.u32 = TIMER};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, 0, &reads), epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &ticks);
    for (;;) {
        char *end = memchr(orders, '\n', orders_bytes);
        if (!end) {
            pump(-1);
            continue;
        }
        *end = 0;
        obey(orders);
        orders_bytes -= (size_t)(end + 1 - orders);
        memmove(orders, end + 1, orders_bytes);
    }
}
