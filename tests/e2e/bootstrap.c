/* A runtime client in plain C, without a library: GET next, POST the event back. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[1 << 16];

static int dial(void) {
    char host[64];
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    if (!api || strlen(api) >= sizeof host) exit(3);
    strcpy(host, api);
    char *colon = strchr(host, ':');
    if (!colon) exit(3);
    *colon = 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) exit(4);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) exit(5);
    return fd;
}

/* Reads until the peer closes; every request says Connection: close. */
static size_t exchange(const char *request, size_t length) {
    int fd = dial();
    if (write(fd, request, length) != (ssize_t)length) exit(6);
    size_t used = 0;
    ssize_t got;
    while ((got = read(fd, buffer + used, sizeof buffer - 1 - used)) > 0) used += got;
    buffer[used] = 0;
    close(fd);
    return used;
}

int main(void) {
    static char event[1 << 16], request[1 << 17];
    for (;;) {
        const char *next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: runtime\r\nConnection: close\r\n\r\n";
        exchange(next, strlen(next));
        char id[64] = "";
        for (char *line = buffer; (line = strstr(line, "\r\n")); ) {
            line += 2;
            if (!strncasecmp(line, "lambda-runtime-aws-request-id:", 30)) sscanf(line + 30, " %63[^\r]", id);
        }
        char *body = strstr(buffer, "\r\n\r\n");
        if (!body || !*id) return 7;
        strcpy(event, body + 4);
        int length = snprintf(request, sizeof request,
            "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: runtime\r\n"
            "Content-Length: %zu\r\nConnection: close\r\n\r\n%s", id, strlen(event), event);
        exchange(request, length);
    }
}
