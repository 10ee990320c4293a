/* Preloaded into captiond by scripts/soak.py: writes every ten seconds what the C library's allocator has in use, so that
 * memory that is lost can be told from memory that lies free in the heap. A line: seconds since 1970, bytes of the heaps,
 * bytes in use there, bytes mapped apart. It allocates nothing itself. glibc 2.33 and later. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void *probe(void *file) {
    int fd = (int)(long)file;
    for (;;) {
        sleep(10);
        struct mallinfo2 now = mallinfo2();
        char line[120];
        int n = snprintf(line, sizeof line, "%ld %zu %zu %zu\n", (long)time(NULL), now.arena, now.uordblks, now.hblkhd);
        if (write(fd, line, (size_t)n) < 0)
            return NULL;
    }
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SOAK_HEAP");
    /* The programs that the daemon starts inherit its environment. */
    if (path == NULL || strcmp(program_invocation_short_name, "captiond") != 0)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (fd >= 0 && pthread_create(&thread, NULL, probe, (void *)(long)fd) == 0)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
