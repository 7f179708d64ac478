// fork MODEL: tests that forked children, and their own children, compute the same bits as their parent, whose four threads encode meanwhile.
// POSIX.
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trivec.h"

enum { THREADS = 4, FORKS = 50, FLOATS = 4096 };

static trivec_model *model;
static float vector[FLOATS];
static atomic_int stop, wrong;

// Writes a text's vector to `out`, and zeros after it. Returns whether the call succeeded.
static int encode(float *out) {
    trivec_text text = {"a text", 6};
    memset(out, 0, FLOATS * sizeof *out);
    return trivec_encode_dense(model, &text, 1, NULL, out, FLOATS, NULL) == TRIVEC_OK;
}

// Whether the text's vector is now the same as at the beginning.
static int same(void) {
    float own[FLOATS];
    return encode(own) && memcmp(own, vector, sizeof own) == 0;
}

static void *work(void *unused) {
    while (!atomic_load(&stop)) {
        if (!same()) atomic_store(&wrong, 1);
    }
    return unused;
}

// Whether a child computes the same vector twice and can free the model, and so do its own child and so on, `depth` times. A child that hangs
// is ended by its alarm.
static int child(int depth) {
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        int good = same() && same() && (depth == 0 || child(depth - 1));
        trivec_model_free(model);
        _exit(good ? 0 : 1);
    }
    int status = 1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int main(int argc, char **argv) {
    trivec_load_options options;
    trivec_load_options_init(&options);
    options.threads = 2;
    if (argc != 2 || trivec_model_load(argv[1], &options, &model, NULL) != TRIVEC_OK || !encode(vector)) return 2;
    pthread_t threads[THREADS];
    for (int at = 0; at < THREADS; at++) {
        if (pthread_create(&threads[at], NULL, work, NULL) != 0) return 2;
    }
    int good = 1;
    for (int at = 0; at < FORKS && good; at++) good = child(1);
    atomic_store(&stop, 1);
    for (int at = 0; at < THREADS; at++) pthread_join(threads[at], NULL);
    good = good && !atomic_load(&wrong) && same();
    trivec_model_free(model);
    puts(good ? "the same bits" : "another vector");
    return good ? 0 : 1;
}
