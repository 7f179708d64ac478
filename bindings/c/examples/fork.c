// fork MODEL: a text's vector has the same bits in a child as in its parent, and in the child's own child. POSIX.
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trivec.h"

static float vector[4096];

static void encode(const trivec_model *model, float *out) {
    trivec_text text = {"a text", 6};
    if (trivec_encode_dense(model, &text, 1, NULL, out, 4096, NULL) != TRIVEC_OK) _exit(1);
}

// Whether a child, so many generations deep, computes the same.
static int child(trivec_model *model, int depth) {
    pid_t pid = fork();
    if (pid == 0) {
        float own[4096] = {0};
        alarm(60);
        encode(model, own);
        int good = memcmp(own, vector, sizeof own) == 0 && (depth == 0 || child(model, depth - 1));
        trivec_model_free(model);
        _exit(good ? 0 : 1);
    }
    int status = 1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int main(int argc, char **argv) {
    trivec_model *model = NULL;
    trivec_load_options options;
    trivec_load_options_init(&options);
    options.threads = 2;
    if (argc != 2 || trivec_model_load(argv[1], &options, &model, NULL) != TRIVEC_OK) return 2;
    encode(model, vector);
    int good = 1;
    for (int at = 0; at < 10 && good; at++) good = child(model, 1);
    encode(model, vector);
    trivec_model_free(model);
    puts(good ? "the same bits" : "another vector");
    return good ? 0 : 1;
}
