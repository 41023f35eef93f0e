/* The floor: what the kernel alone takes of a proxy's time. `floor PORT UPSTREAM_PORT TOKEN`
 *
 * One epoll loop; every caller's connection has an upstream connection of its own; each piece that arrives is written
 * on in one call. Into a piece that begins like a request one field is inserted after the first line. Nothing is
 * parsed, pooled, timed or limited: it is right only for callers that send a whole head at once, which is how
 * benches/compare uses it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, FIELD = 1024, PIECE = 128 * 1024 };

struct end {
    int socket;
    int is_caller;
    struct end *other;
};

static char piece[PIECE];
static char field[FIELD];
static size_t field_length;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void no_delay(int socket) {
    int one = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Writes everything, and waits for room where there is none: the other side of a measurement always reads. */
static int write_all(int socket, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = send(socket, bytes, length, MSG_NOSIGNAL);
        if (written < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = socket, .events = POLLOUT};
            poll(&room, 1, -1);
        } else if (written < 0) {
            return -1;
        } else {
            bytes += written;
            length -= (size_t)written;
        }
    }
    return 0;
}

/* Inserts the field, where a request begins; the new length of the piece. */
static size_t with_field(size_t length) {
    if (memcmp(piece, "GET /", 5) != 0 && memcmp(piece, "POST /", 6) != 0) return length;
    char *line_end = memchr(piece, '\n', length);
    if (!line_end) return length;
    size_t line = (size_t)(line_end - piece) + 1;
    memmove(piece + line + field_length, piece + line, length - line);
    memcpy(piece + line, field, field_length);
    return length + field_length;
}

static struct end *end_of(int epoll, int socket, int is_caller) {
    struct end *end = malloc(sizeof *end);
    if (!end) fail("malloc");
    *end = (struct end){.socket = socket, .is_caller = is_caller};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) < 0) fail("epoll_ctl");
    return end;
}

static void accept_one(int epoll, int listener, const struct sockaddr_in *upstream) {
    int caller = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (caller < 0) return;
    int other = socket(AF_INET, SOCK_STREAM, 0);
    if (other < 0 || connect(other, (const struct sockaddr *)upstream, sizeof *upstream) < 0) fail("connect");
    int nonblocking = fcntl(other, F_SETFL, O_NONBLOCK);
    if (nonblocking < 0) fail("fcntl");
    no_delay(caller);
    no_delay(other);
    struct end *inner = end_of(epoll, caller, 1), *outer = end_of(epoll, other, 0);
    inner->other = outer;
    outer->other = inner;
}

/* Passes on what one end sent; -1 when it is over. */
static int relay(const struct end *end) {
    ssize_t got = recv(end->socket, piece, sizeof piece - sizeof field, 0);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) return -1;
    size_t length = end->is_caller ? with_field((size_t)got) : (size_t)got;
    return write_all(end->other->socket, piece, length);
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "floor: expected PORT UPSTREAM_PORT TOKEN; benches/compare/run.py runs it\n");
        return 2;
    }
    struct sockaddr_in own = loopback(arguments[1]), upstream = loopback(arguments[2]);
    field_length = (size_t)snprintf(field, sizeof field, "Authorization: Bearer %s\r\n", arguments[3]);
    if (field_length >= sizeof field) return 2;

    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) < 0 || listen(listener, 4096) < 0) fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0) fail("epoll");

    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int each = 0; each < ready; each++) {
            struct end *end = events[each].data.ptr;
            if (!end) {
                accept_one(epoll, listener, &upstream);
                continue;
            }
            if (relay(end) == 0) continue;
            /* The other end may have an event further on in this batch: it must not find freed memory. */
            for (int later = each + 1; later < ready; later++)
                if (events[later].data.ptr == end->other) events[later--] = events[--ready];
            close(end->socket);
            close(end->other->socket);
            free(end->other);
            free(end);
        }
    }
}
