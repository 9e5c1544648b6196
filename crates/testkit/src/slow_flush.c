/* Makes each flush cost SLOW_FLUSH_MS milliseconds (5 unless said otherwise) before it really happens. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_a_while(void) {
    const char *text = getenv("SLOW_FLUSH_MS");
    long ms = text ? atol(text) : 5;
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};
    while (nanosleep(&left, &left) != 0) {
    }
}

int fsync(int fd) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_a_while();
    return next(fd);
}

int fdatasync(int fd) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_a_while();
    return next(fd);
}

int sync_file_range(int fd, long offset, long bytes, unsigned flags) {
    int (*next)(int, long, long, unsigned) = (int (*)(int, long, long, unsigned))dlsym(RTLD_NEXT, "sync_file_range");
    wait_a_while();
    return next(fd, offset, bytes, flags);
}
